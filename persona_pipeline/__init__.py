"""Turn web text into personas, and personas into synthetic training data.

The names below are the public face: typed, documented, and stable. So are the types of their
arguments and results. What is not among them is internal, and may change in any version. Each
name is imported when it is first used.

    import persona_pipeline as pp

    project = pp.open_project(data_dir="data")
    project.query("from marts.funnel")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from persona_pipeline.dedup.duplicates import Duplicates, find_duplicates
    from persona_pipeline.dedup.rules import Thresholds
    from persona_pipeline.errors import PipelineError
    from persona_pipeline.estimate import estimate_run
    from persona_pipeline.personas.persona_to_persona import persona_to_persona
    from persona_pipeline.personas.quality import apply_quality_rules
    from persona_pipeline.personas.text_to_persona import text_to_persona
    from persona_pipeline.project import Project, open_project
    from persona_pipeline.settings import Settings, load_settings
    from persona_pipeline.store.stage_rows import StageRows
    from persona_pipeline.synthesis.domain import load_domains
    from persona_pipeline.synthesis.records import synthesize

__all__ = [
    "Duplicates",
    "PipelineError",
    "Project",
    "Settings",
    "StageRows",
    "Thresholds",
    "apply_quality_rules",
    "estimate_run",
    "find_duplicates",
    "load_domains",
    "load_settings",
    "open_project",
    "persona_to_persona",
    "synthesize",
    "text_to_persona",
]

_MODULES = {
    "Duplicates": "dedup.duplicates",
    "PipelineError": "errors",
    "Project": "project",
    "Settings": "settings",
    "StageRows": "store.stage_rows",
    "Thresholds": "dedup.rules",
    "apply_quality_rules": "personas.quality",
    "estimate_run": "estimate",
    "find_duplicates": "dedup.duplicates",
    "load_domains": "synthesis.domain",
    "load_settings": "settings",
    "open_project": "project",
    "persona_to_persona": "personas.persona_to_persona",
    "synthesize": "synthesis.records",
    "text_to_persona": "personas.text_to_persona",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a public name of any type
    """Import a public name. All of them take 1.2 CPU-seconds, the command line needs few."""
    if name == "__version__":
        return import_module("importlib.metadata").version("persona-pipeline")
    if name not in _MODULES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
