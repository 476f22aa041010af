"""`python -m persona_pipeline` is the command line."""

from persona_pipeline.cli import main

main()
