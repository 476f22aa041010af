"""Test the way from settings to personas on servers that think or refuse the usual form."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from persona_pipeline.errors import PipelineError
from persona_pipeline.llm.gateway.context import StageUsage
from persona_pipeline.personas.text_to_persona import text_to_persona
from persona_pipeline.project import open_project
from persona_pipeline.stage_names import TEXT_TO_PERSONA
from persona_pipeline.store.stage_rows import StageRows
from tests.support.picky_server import Answer, Body, completion, refusal, serve_picky
from tests.support.purchases import GOOD

PAGES = pl.DataFrame(
    [
        {"document_id": f"d{number}", "title": None, "text": f"Page {number} on canal locks."}
        for number in range(6)
    ],
    schema={"document_id": pl.String, "title": pl.String, "text": pl.String},
)


def extract(data: Path, url: str, **settings: Any) -> tuple[StageRows, StageUsage]:  # noqa: ANN401
    """Ask who reads and writes six pages, as a run does, and commit what was bought."""
    project = open_project(data_dir=data, api_base=url, **{"model": "openai/served", **settings})
    with project.open_gateway(TEXT_TO_PERSONA) as gateway:
        try:
            rows = text_to_persona(PAGES, project.persona_plan(TEXT_TO_PERSONA), gateway, "s")
        finally:
            project.store.replace([], gateway.journal.to_commit(), run_id="r")
            gateway.journal.committed()
        return rows, gateway.usage[TEXT_TO_PERSONA]


def thinks(tokens: int) -> Answer:
    """Spend so many tokens on thoughts, and answer if 50 are left."""

    def answer(body: Body) -> tuple[int, Body]:
        bound = body.get("max_tokens") or body["max_completion_tokens"]
        if bound < tokens + 50:
            return 200, completion("", "length", reasoning_content="Who might read this?")
        return 200, completion(GOOD, reasoning_content="Who might read this?")

    return answer


def is_deepseek(body: Body) -> tuple[int, Body]:
    if body.get("response_format", {}).get("type") == "json_schema":
        return 400, refusal("This response_format type is unavailable now")
    return 200, completion(GOOD)


def is_alias(body: Body) -> tuple[int, Body]:
    for name in ("max_tokens", "temperature", "top_p"):
        if name in body:
            return 400, refusal(f"Unsupported parameter: '{name}' is not supported.", param=name)
    return 200, completion(GOOD)


@pytest.mark.parametrize("answer", [is_deepseek, is_alias])
def test_every_row_is_kept_in_one_call_on_a_server_that_refuses_the_usual_form(
    answer: Answer, tmp_path: Path
) -> None:
    with serve_picky(answer) as server:
        rows, usage = extract(tmp_path, server.url)
        assert len(rows.tables["personas.extracted"]) == 12
        assert (server.answered, usage.bought, usage.failed) == (12, 12, 0)
        _, again = extract(tmp_path, server.url, schema_mode="prompt")
        assert (server.answered, again.reused, again.bought) == (12, 12, 0)


def test_a_model_that_is_known_to_think_answers_every_row_in_one_call(tmp_path: Path) -> None:
    with serve_picky(thinks(2000)) as server:
        rows, usage = extract(tmp_path, server.url, model="openai/gpt-oss-20b")
    assert len(rows.tables["personas.extracted"]) == 12
    assert (server.answered, usage.bought, usage.invalid) == (12, 12, 0)


def test_rows_without_room_stop_the_run_and_are_asked_again_once_there_is_room(
    tmp_path: Path,
) -> None:
    with serve_picky(thinks(20_000)) as server:
        for _ in range(2):
            with pytest.raises(PipelineError, match="raise the setting reasoning_tokens"):
                extract(tmp_path, server.url, max_concurrency=2)
        paid = server.answered
        assert paid <= 20
        rows, usage = extract(tmp_path, server.url, reasoning_tokens=30_000)
        assert len(rows.tables["personas.extracted"]) == 12
        assert usage.bought == 12
        asked = server.answered
        rows, usage = extract(tmp_path, server.url, reasoning_tokens=90_000)
        assert (server.answered, usage.reused) == (asked, 12)
    assert len(rows.tables["personas.extracted"]) == 12


def test_another_sampling_asks_again_and_the_old_answers_stay(tmp_path: Path) -> None:
    colder = {"openai/served": {"temperature": 0.1}}
    with serve_picky(lambda _: (200, completion(GOOD))) as server:
        extract(tmp_path, server.url)
        _, usage = extract(tmp_path, server.url, sampling=colder)
        assert (server.answered, usage.bought) == (24, 12)
        assert {body["temperature"] for body in server.bodies[-12:]} == {0.1}
        _, usage = extract(tmp_path, server.url)
        assert (server.answered, usage.reused) == (24, 12)
