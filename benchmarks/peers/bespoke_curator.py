# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = ["bespokelabs-curator==0.1.31", "litellm==1.83.7", "openai==2.30.0"]
# ///
"""Bespoke Curator: one `curator.LLM` per step on the OpenAI backend, its cache in the work folder.

It would download a tokenizer at its start; tiktoken's cache folder is pointed at the copy of the
same file that LiteLLM carries. Two of its calls a start are probes of the endpoint.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ["TELEMETRY_ENABLED"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["CURATOR_DISABLE_RICH_DISPLAY"] = "1"
os.environ["TIKTOKEN_CACHE_DIR"] = str(
    Path(find_spec("litellm").origin).parent / "litellm_core_utils" / "tokenizers"
)

from adapter import (
    API_KEY,
    MAX_TOKENS,
    MODEL,
    SYSTEM_PROMPT,
    TEMPERATURE,
    Job,
    Meter,
    read_job,
    write_answers,
)
from bespokelabs import curator
from pydantic import BaseModel

NO_LIMIT = 10**9


class Persona(BaseModel):
    """Define the answer's schema."""

    persona: str


class PersonaWriter(curator.LLM):
    """Run the first step."""

    response_format = Persona

    def prompt(self, row: dict[str, Any]) -> list[dict[str, str]]:
        """Return the row's chat messages."""
        return [
            {"role": "system", "content": row["system"]},
            {"role": "user", "content": row["prompt"]},
        ]

    def parse(self, row: dict[str, Any], response: Persona) -> dict[str, Any]:
        """Keep the row beside its answer."""
        return {
            "prompt": row["prompt"],
            "task": row["task"].replace("{persona}", response.persona),
            "answer": response.model_dump_json(),
        }


class TaskWriter(curator.LLM):
    """Run the second step."""

    def prompt(self, row: dict[str, Any]) -> str:
        """Return the prompt that the first step completed."""
        return str(row["task"])

    def parse(self, row: dict[str, Any], response: str) -> dict[str, Any]:
        """Keep the row beside its answer."""
        return {"prompt": row["prompt"], "answer": response}


def settings(job: Job) -> dict[str, Any]:
    """Return the endpoint, the concurrency and lifted rate limits.

    Failed rows do not fail the run.
    """
    return {
        "model_name": MODEL,
        "backend": "openai",
        "generation_params": {"max_tokens": MAX_TOKENS, "temperature": TEMPERATURE},
        "backend_params": {
            "base_url": job.url,
            "api_key": API_KEY,
            "max_concurrent_requests": job.concurrency,
            "max_requests_per_minute": NO_LIMIT,
            "max_tokens_per_minute": NO_LIMIT,
            "require_all_responses": False,
        },
    }


def run(job: Job) -> list[tuple[str, str | None]]:
    """Run one step or two."""
    task = job.second_prompt or ""
    rows = [{"prompt": row.prompt, "system": SYSTEM_PROMPT, "task": task} for row in job.rows]
    dataset = PersonaWriter(**settings(job))(rows, working_dir=str(job.work / "cache")).dataset
    if job.second_prompt:
        writer = TaskWriter(**settings(job))
        dataset = writer(dataset, working_dir=str(job.work / "cache")).dataset
    return list(zip(dataset["prompt"], dataset["answer"], strict=True))


def main() -> None:
    """Run the job."""
    job = read_job()
    with Meter() as meter:
        pairs = run(job)
    meter.report(write_answers(job, pairs))


if __name__ == "__main__":
    main()
