"""Run persona_pipeline as a stage does, with its journal, store, limiter and validation."""

import json
from collections.abc import Iterator

from adapter import (
    API_KEY,
    MAX_TOKENS,
    MODEL,
    SCHEMA,
    TEMPERATURE,
    Job,
    Meter,
    messages,
    read_job,
    write_answers,
)

from persona_pipeline.llm.clients.litellm_client import import_litellm
from persona_pipeline.llm.gateway.gateway import Gateway
from persona_pipeline.llm.requests import ChatRequest, Sampling
from persona_pipeline.models import open_gateway
from persona_pipeline.settings import load_settings
from persona_pipeline.store.store import Store


def request_of(prompt: str, stage: str) -> ChatRequest:
    """Return the benchmark's call as a request."""
    return ChatRequest(
        model=f"openai/{MODEL}",
        messages=tuple(messages(prompt)),
        schema=SCHEMA,
        sampling=Sampling(TEMPERATURE, 1.0, MAX_TOKENS),
        stage=stage,
    )


def buy_step(gateway: Gateway, prompts: list[str], stage: str) -> Iterator[tuple[str, str]]:
    """Yield the usable answers to the prompts as (prompt, persona)."""
    requests = {prompt: request_of(prompt, stage) for prompt in prompts}
    answers = gateway.answers(requests.values(), shard="bench", stage=stage)
    for prompt, request in requests.items():
        answer = answers[request.call_key]
        if answer.status == "ok" and answer.response:
            yield prompt, json.loads(answer.response)["persona"]


def buy_all(gateway: Gateway, job: Job) -> list[tuple[str, str]]:
    """Run both steps, or the only one."""
    bought = list(buy_step(gateway, [row.prompt for row in job.rows], "first"))
    if job.second_prompt is None:
        return bought
    second = {job.second_prompt.format(persona=persona): prompt for prompt, persona in bought}
    return [(second[asked], answer) for asked, answer in buy_step(gateway, list(second), "second")]


def main() -> None:
    """Run the job and commit what it bought."""
    job = read_job()
    settings = load_settings(
        model=f"openai/{MODEL}",
        api_base=job.url,
        api_key=API_KEY,
        max_concurrency=job.concurrency,
        data_dir=job.work / "data",
    )
    store = Store(settings.database, settings.snapshot)
    store.migrate()
    import_litellm()
    with open_gateway(settings, store) as gateway:
        with Meter() as meter:
            pairs = buy_all(gateway, job)
        store.replace([], gateway.journal.to_commit(), run_id="bench")
        gateway.journal.committed()
    meter.report(write_answers(job, pairs))


if __name__ == "__main__":
    main()
