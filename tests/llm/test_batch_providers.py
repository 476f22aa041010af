"""Test batches of Azure and Mistral, on servers of their forms, and what LiteLLM has of others."""

import inspect
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from persona_pipeline.llm.batches.providers import PROVIDERS, azure_body, find_route
from persona_pipeline.llm.clients.litellm_client import import_litellm
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.requests import ChatRequest
from tests.support.batch_clients import (
    ask,
    check_one_batch,
    count_prompt,
    open_client,
    records,
    stop_while_waiting,
    texts,
    the_error,
)
from tests.support.batch_server import BatchServer, Json, serve_batches
from tests.support.purchases import buy, make_request

KEY = "sk-canary-22b1"
AZURE, MISTRAL = "azure/our-gpt-4.1-mini", "mistral/mistral-small-latest"


def requests_to(model: str, count: int = 3) -> list[ChatRequest]:
    return [make_request(f"Who reads page {number}?", model=model) for number in range(count)]


def place_of(model: str, server: BatchServer) -> str:
    """Return the address that a user gives: Azure's has no version in its path."""
    return server.url.removesuffix("/v1") if model == AZURE else server.url


@pytest.mark.parametrize("model", [AZURE, MISTRAL])
def test_answers_are_bought_in_one_batch_and_each_once(tmp_path: Path, model: str) -> None:
    asked = requests_to(model)
    with serve_batches(BatchServer(answer=count_prompt, key=KEY)) as server:
        client = open_client(
            server, tmp_path, api_key=KEY, model=model, api_base=place_of(model, server)
        )
        answers = buy(client, asked, tmp_path / "journal")
    check_one_batch(server, asked, answers)


def test_azure_is_asked_on_its_own_paths_and_by_the_deployment(tmp_path: Path) -> None:
    [one] = requests_to(AZURE, 1)
    with serve_batches(BatchServer()) as server:
        client = open_client(
            server, tmp_path, api_key=KEY, model=AZURE, api_base=place_of(AZURE, server)
        )
        texts(ask(client, one))
    assert set(server.asked) == {
        "POST /openai/files", "POST /openai/batches", "GET /openai/batches/batch_0",
        "GET /openai/files/file-1/content",
    }  # fmt: skip
    [batch] = server.batches.values()
    [line] = [json.loads(line) for line in server.files[batch["input_file_id"]].splitlines()]
    assert batch["endpoint"] == line["url"] == "/chat/completions"
    assert line["body"]["model"] == "our-gpt-4.1-mini"
    assert line["body"]["messages"] == [*one.messages]
    assert line["body"]["response_format"]["type"] == "json_schema"
    assert line["body"]["max_tokens"] == one.sampling.max_tokens


def test_mistral_s_model_is_that_of_the_job_and_not_of_a_line(tmp_path: Path) -> None:
    with serve_batches(BatchServer()) as server:
        client = open_client(server, tmp_path, api_key=KEY, model=MISTRAL)
        texts(ask(client, *requests_to(MISTRAL, 1)))
    [line] = [json.loads(line) for line in server.files["file-0"].splitlines()]
    assert line.keys() == {"custom_id", "body"}
    assert "model" not in line["body"]
    assert "POST /v1/batch/jobs" in server.asked


@pytest.mark.parametrize("model", [AZURE, MISTRAL])
def test_a_batch_that_was_submitted_is_collected_by_the_next_process(
    tmp_path: Path, model: str
) -> None:
    asked = requests_to(model)
    with serve_batches(BatchServer(delay=60)) as server:
        open_next = partial(
            open_client,
            server,
            tmp_path,
            api_key=KEY,
            model=model,
            api_base=place_of(model, server),
        )
        stop_while_waiting(open_next(), tmp_path, *asked)
        server.finish()
        assert len(texts(ask(open_next(), *asked))) == 3
    assert len(server.batches) == 1
    assert server.billed_twice == 0


def test_azure_s_batch_whose_id_was_lost_is_found_and_not_bought_twice(tmp_path: Path) -> None:
    with serve_batches(BatchServer(loses_answer=True)) as server:
        client = open_client(
            server, tmp_path, api_key=KEY, model=AZURE, api_base=place_of(AZURE, server)
        )
        assert len(texts(ask(client, *requests_to(AZURE)))) == 3
    assert len(server.batches) == 1
    assert "GET /openai/batches" in server.asked


def test_mistral_s_batch_whose_id_was_lost_is_left_to_the_user_and_not_bought_twice(
    tmp_path: Path,
) -> None:
    asked = requests_to(MISTRAL, 1)
    with serve_batches(BatchServer(loses_answer=True)) as server:
        client = open_client(server, tmp_path, api_key=KEY, model=MISTRAL)
        error = the_error(ask(client, *asked))
        assert error.kind is CallErrorKind.FATAL
        assert "LiteLLM cannot list the batches of mistral/mistral-small-latest" in str(error)
        [record] = records(tmp_path)
        assert str(record.path) in str(error)
        with record.path.open("a") as file:  # what the message tells the user to do
            file.write('{"batch_id": "batch_0"}\n')
        again = open_client(server, tmp_path, api_key=KEY, model=MISTRAL)
        assert len(texts(ask(again, *asked))) == 1
    assert len(server.batches) == 1
    assert server.billed_twice == 0


def test_mistral_s_refusal_of_a_batch_leaves_nothing_behind(tmp_path: Path) -> None:
    with serve_batches(BatchServer(troubles=[503])) as server:
        client = open_client(server, tmp_path, api_key=KEY, model=MISTRAL)
        error = the_error(ask(client, *requests_to(MISTRAL, 1)))
    assert error.kind is CallErrorKind.TRANSIENT
    assert not records(tmp_path)
    assert not server.batches


@pytest.mark.parametrize("model", [AZURE, MISTRAL])
def test_a_wrong_key_is_fatal_and_not_shown(tmp_path: Path, model: str) -> None:
    with serve_batches(BatchServer(key="another")) as server:
        client = open_client(
            server, tmp_path, api_key=KEY, model=model, api_base=place_of(model, server)
        )
        error = the_error(ask(client, *requests_to(model, 1)))
    assert error.kind is CallErrorKind.FATAL
    assert KEY not in str(error)


def test_azure_without_key_or_address_says_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(CallError, match="no address: give --api-base, for azure"):
        find_route(AZURE, None, KEY)
    with pytest.raises(CallError, match="no API key: set AZURE_API_KEY, for azure"):
        find_route(AZURE, "http://127.0.0.1:1", None)


def test_a_reasoning_deployment_gets_no_temperature() -> None:
    body: Json = json.loads(azure_body(replace(requests_to(AZURE, 1)[0], model="azure/o3")) or b"")
    assert "temperature" not in body
    assert body["max_completion_tokens"] == 256


def test_litellm_has_the_batches_that_we_promise_and_no_others() -> None:
    """Fails once LiteLLM creates batches of more providers: then they can be promised, too."""
    create = import_litellm().create_batch
    named = inspect.signature(create).parameters["custom_llm_provider"].annotation
    assert set(named.__args__) == {
        "openai", "azure", "vertex_ai", "bedrock", "hosted_vllm", "litellm_proxy", "mistral", "xai",
    }  # fmt: skip
    assert set(PROVIDERS) <= set(named.__args__)
