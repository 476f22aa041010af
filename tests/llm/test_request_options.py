"""Test what settings change in requests, and that unset ones change no call key."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.llm.clients.dialect import Dialect, extra_params, request_params
from persona_pipeline.llm.clients.direct import DirectChatClient
from persona_pipeline.llm.clients.litellm_client import LiteLLMChatClient
from persona_pipeline.llm.request_options import AS_THE_PROMPTS_SAY, RequestOptions
from persona_pipeline.llm.requests import Sampling
from tests.support.picky_server import completion, serve_picky
from tests.support.purchases import GOOD, ScriptedClient, in_turn, make_request, open_gateway

MODEL, SECOND = "openai/alias", "openai/second"
ONE = make_request(model=MODEL, stage="synthetic.math")


def test_options_that_are_not_set_change_no_request_and_no_version() -> None:
    others = RequestOptions({"other": {"top_p": 0.5}}, {"synthetic.npc": {"seed": 7}})
    for options in (AS_THE_PROMPTS_SAY, others):
        assert options.apply(ONE) is ONE
        assert options.version(MODEL, "synthetic.math") == ()
    assert AS_THE_PROMPTS_SAY.apply(make_request()).call_key == "81cd1cc29a2a7ec84425e4bbf5fd37ad"
    assert AS_THE_PROMPTS_SAY.apply(ONE, SECOND) == replace(ONE, model=SECOND)


def test_a_stage_wins_over_a_model_and_both_over_the_prompt() -> None:
    options = RequestOptions(
        {MODEL: {"temperature": 0.1, "top_p": None}, "synthetic.math": {"temperature": 0.2}},
        {MODEL: {"seed": 1, "user": "u"}, "synthetic.math": {"seed": 2}},
        "low",
    )
    asked = options.apply(ONE)
    assert asked.sampling == Sampling(temperature=0.2, top_p=None, max_tokens=256)
    assert asked.parameters == {"reasoning_effort": "low", "seed": 2, "user": "u"}
    assert asked.call_key not in {ONE.call_key, replace(asked, parameters={}).call_key}
    [version] = options.version(MODEL, "synthetic.math")
    assert "0.2" in version


def test_a_fallback_is_asked_with_its_own_options() -> None:
    options = RequestOptions(
        {MODEL: {"temperature": 0.1}, SECOND: {"top_p": 0.3}}, {MODEL: {"seed": 1}}
    )
    asked = options.apply(options.apply(ONE), SECOND)
    assert asked == replace(ONE, model=SECOND, sampling=Sampling(top_p=0.3))
    assert options.apply(asked, MODEL) == options.apply(ONE)


def test_a_fallback_without_options_gets_the_request_of_its_prompt() -> None:
    options = RequestOptions({MODEL: {"temperature": 0.1}})
    asked = []

    def answer(request: Any, _before: int) -> str:  # noqa: ANN401 - a request
        asked.append(request)
        return GOOD if request.model == SECOND else "no JSON"

    client = ScriptedClient(answer)
    with open_gateway(client, fallbacks={SECOND: client}, options=options) as gateway:
        [row] = gateway.answers([options.apply(ONE)], shard="s", stage="t").values()
    assert (row.status, row.call_key) == ("ok", replace(ONE, model=SECOND).call_key)
    assert [request.sampling.temperature for request in asked] == [0.1, 0.1, 0.7]


@given(st.floats(0, 2), st.floats(0.1, 1), st.integers(1, 999))
def test_applying_options_twice_is_applying_them_once(
    temperature: float, top_p: float, tokens: int
) -> None:
    values = {"temperature": temperature, "top_p": top_p, "max_tokens": tokens}
    options = RequestOptions({MODEL: values})
    once = options.apply(ONE)
    assert once.sampling == Sampling(temperature, top_p, tokens)
    assert options.apply(once) == once


def test_a_model_in_this_process_gets_no_reasoning_effort() -> None:
    options = RequestOptions(reasoning_effort="low")
    assert options.apply(make_request()).parameters == {}
    assert options.apply(ONE).parameters == {"reasoning_effort": "low"}


@pytest.mark.parametrize("client", [DirectChatClient, LiteLLMChatClient])
def test_options_are_sent_and_what_is_none_is_not(
    client: type[DirectChatClient | LiteLLMChatClient],
) -> None:
    options = RequestOptions(
        {MODEL: {"temperature": None, "top_p": 0.5, "max_tokens": 77}}, {MODEL: {"seed": 7}}
    )
    with (
        serve_picky(lambda _: (200, completion(GOOD))) as server,
        open_gateway(client(api_base=server.url), options=options) as gateway,
    ):
        gateway.answers([options.apply(ONE)], shard="s", stage="t")
    [body] = server.bodies
    assert "temperature" not in body
    assert (body["top_p"], body["max_tokens"], body["seed"]) == (0.5, 77, 7)


def test_the_direct_client_sends_parameters_of_a_server_s_own() -> None:
    own = {"chat_template_kwargs": {"enable_thinking": False}}
    options = RequestOptions(parameters={MODEL: own}, reasoning_effort="low")
    with (
        serve_picky(lambda _: (200, completion(GOOD))) as server,
        open_gateway(DirectChatClient(api_base=server.url)) as gateway,
    ):
        gateway.answers([options.apply(ONE)], shard="s", stage="t")
    [body] = server.bodies
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["reasoning_effort"] == "low"


def test_a_reasoning_effort_that_is_refused_is_left_out() -> None:
    asked = RequestOptions(reasoning_effort="low").apply(ONE)
    refused = Dialect(left_out=frozenset({"reasoning_effort", "top_p"}))
    assert extra_params(asked, Dialect()) == {"reasoning_effort": "low"}
    assert extra_params(asked, refused) == {}
    assert "top_p" not in request_params(asked, refused, is_own_server=True)


def test_what_was_asked_is_in_the_journal() -> None:
    options = RequestOptions(parameters={"fake/demo": {"seed": 7}})
    with open_gateway(ScriptedClient(in_turn(GOOD))) as gateway:
        gateway.answers([options.apply(make_request())], shard="s", stage="t")
        [path] = gateway.journal.to_commit()
        assert '\\"parameters\\": {\\"seed\\": 7}' in path.read_text()
