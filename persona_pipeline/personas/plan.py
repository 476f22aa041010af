"""The settings of the persona stages, and the prompts they use."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from persona_pipeline.llm.prompts import Prompt, PromptFile, load_prompt, read_yaml
from persona_pipeline.llm.requests import Sampling

PROMPTS = Path(__file__).parent / "prompts"


@dataclass(frozen=True, slots=True)
class PersonaPlan:
    """What is asked of the model for each document and persona."""

    model: str
    verbs: tuple[str, ...] = ("read", "write")
    granularity: str = "fine"
    document_chars: int = 2000
    hops: int = 1
    fan_out: int = 1
    language: str | None = None


@cache
def stage_prompt(name: str) -> Prompt:
    """The prompt of a persona stage, from `persona_pipeline/personas/prompts/<name>`."""
    folder = PROMPTS / name
    return load_prompt(folder, read_yaml(folder / "prompt.yaml", PromptFile))


def with_tokens_for(sampling: Sampling, count: int) -> Sampling:
    """Room for `count` items where the prompt's own limit is for one."""
    return Sampling(sampling.temperature, sampling.top_p, sampling.max_tokens * count)
