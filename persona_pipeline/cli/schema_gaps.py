"""Say which parts of a domain's schema its model does not hold while it writes."""

from collections.abc import Iterable

from rich.console import Console

from persona_pipeline.cli.terminal import warn
from persona_pipeline.llm.grammars import TOO_LONG, as_grammar_schema, list_gaps
from persona_pipeline.project import Project
from persona_pipeline.synthesis.domain import Domain, load_domains


def print_gaps(console: Console, project: Project, domains: Iterable[Domain]) -> None:
    """Print a sentence for each of the domains whose schema is not held whole."""
    for domain in domains:
        if gaps := describe_gaps(project, domain):
            warn(console, gaps)


def describe_gaps(project: Project, domain: Domain) -> str | None:
    """Return a sentence about the keywords that the domain's model does not hold; None: it does.

    The embedded model runs on llama.cpp. A server of one's own may; of that, the built-in domains
    are not spoken of, since only a length beside a pattern is in them.
    """
    settings = project.settings
    model = project.synthesis_plan(domain).model
    if model.startswith("embedded/"):
        long = [gap for gap in list_gaps(domain.prompt.schema) if TOO_LONG in gap]
        sent = as_grammar_schema(domain.prompt.schema)  # without such lengths
        gaps, who = [*long, *list_gaps(sent)], "the embedded model does"
    elif settings.api_base and settings.schema_mode in {"auto", "json_schema"} and _is_own(domain):
        gaps, who = [*list_gaps(domain.prompt.schema)], "llama.cpp, if that is the server, does"
    else:
        return None
    listed = list(dict.fromkeys(gaps))
    if not listed:
        return None
    return (
        f"{domain.name}: {who} not hold these parts of its schema: {'; '.join(listed)}. "
        "Answers that break them are rejected."
    )


def _is_own(domain: Domain) -> bool:
    built_in = load_domains().get(domain.name)
    return built_in is None or built_in.prompt.version != domain.prompt.version
