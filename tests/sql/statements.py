"""The statements that stand in the code: module constants whose name ends in `_SQL`."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import assets
import persona_pipeline

PACKAGE = Path(persona_pipeline.__file__).parent
ASSETS = Path(assets.__file__).parent
SUFFIX = "_SQL"
MARK = "-- One row"
"""How every statement begins."""


def text_constants() -> Iterator[tuple[str, str, str]]:
    """Module, name and value of every text that a module of ours binds to a name."""
    for path in sorted([*PACKAGE.rglob("*.py"), *ASSETS.rglob("*.py")]):
        root = PACKAGE if path.is_relative_to(PACKAGE) else ASSETS.parent
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            match node:
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=str(text))):
                    yield module, name, text
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
                    yield module, name, text
                case _:
                    continue


def sql_constants() -> Mapping[str, str]:
    """The statements by module and name, such as `hub.selection.SELECTED_COUNT_SQL`."""
    return {
        f"{module}.{name}": text.lstrip()
        for module, name, text in text_constants()
        if name.endswith(SUFFIX)
    }
