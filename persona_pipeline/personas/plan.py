"""The settings of the persona stages, and the prompts they use."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from persona_pipeline.llm.requests import Sampling
from persona_pipeline.prompting import Prompt, PromptFile, load_prompt, read_yaml
from persona_pipeline.settings import Settings

PROMPTS = Path(__file__).parent.parent / "prompts"


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


def persona_plan(settings: Settings, stage: str) -> PersonaPlan:
    """What the settings ask of a persona stage."""
    return PersonaPlan(
        model=settings.models_for(stage)[0],
        verbs=tuple(settings.verbs),
        granularity=settings.granularity,
        document_chars=settings.document_chars,
        hops=settings.hops,
        fan_out=settings.fan_out,
        language=settings.language,
    )


@cache
def stage_prompt(name: str) -> Prompt:
    """The prompt of a persona stage, from `persona_pipeline/prompts/<name>`."""
    folder = PROMPTS / name
    return load_prompt(folder, read_yaml(folder / "prompt.yaml", PromptFile))


def with_tokens_for(sampling: Sampling, count: int) -> Sampling:
    """Room for `count` items where the prompt's own limit is for one."""
    return Sampling(sampling.temperature, sampling.top_p, sampling.max_tokens * count)
