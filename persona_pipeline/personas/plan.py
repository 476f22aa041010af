"""State what the persona stages ask of the model, and load their prompts."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from persona_pipeline.llm.prompts import Prompt, PromptFile, load_prompt, read_yaml
from persona_pipeline.llm.request_options import AS_THE_PROMPTS_SAY, RequestOptions
from persona_pipeline.llm.requests import Sampling

PROMPTS = Path(__file__).parent / "prompts"


@dataclass(frozen=True, slots=True)
class PersonaPlan:
    """What is asked of the model for each document and persona."""

    model: str
    verbs: tuple[str, ...] = ("read", "write")
    """How the personas stand to the document: one request per document and verb."""
    granularity: str = "fine"
    """How detailed the personas are: `fine` or `coarse`."""
    document_chars: int = 2000
    """Characters of a document that the model is shown, from its start."""
    hops: int = 1
    """How many times related personas are asked for; a hop starts at the personas of the last."""
    fan_out: int = 1
    """Related personas that are asked for per persona."""
    language: str | None = None
    """ISO 639-1 code that personas must have; None: any language."""
    options: RequestOptions = AS_THE_PROMPTS_SAY
    """What is asked in another way than the prompts say."""


@cache
def stage_prompt(name: str) -> Prompt:
    """Load the prompt of a persona stage from `persona_pipeline/personas/prompts/<name>`."""
    folder = PROMPTS / name
    return load_prompt(folder, read_yaml(folder / "prompt.yaml", PromptFile))


def with_tokens_for(sampling: Sampling, count: int) -> Sampling:
    """Multiply the token limit by `count`, as the prompt's own limit is for one item."""
    return Sampling(sampling.temperature, sampling.top_p, sampling.max_tokens * count)
