"""The command line."""

from persona_pipeline.cli.main import main

__all__ = ["main"]
