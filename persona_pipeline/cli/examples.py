"""The queries of `sql/examples/`: each a question, and one SELECT that answers it."""

from persona_pipeline.errors import PipelineError, unknown_choice
from persona_pipeline.sql_files import read_sql, sql_names


def example_names() -> list[str]:
    """What `--example` accepts."""
    return [name.removeprefix("examples/") for name in sql_names("examples")]


def read_example(name: str) -> str:
    """The text of one.

    Raises:
        PipelineError: there is none of this name; lists them.
    """
    if name not in example_names():
        raise PipelineError(unknown_choice("example", name, example_names()))
    return read_sql(f"examples/{name}")


def question(name: str) -> str:
    """What it answers: its first line."""
    return read_example(name).partition("\n")[0].removeprefix("-- ")


def list_examples() -> str:
    """Name and question of each, one a line."""
    width = max(map(len, example_names()))
    return "\n".join(f"{name:<{width}}  {question(name)}" for name in example_names())
