"""The code location that workspace.yaml names, of the settings in the environment and the file."""

from assets.code_location import build_definitions
from persona_pipeline.project import open_project

__all__ = ["build_definitions", "defs"]

defs = build_definitions(open_project())
