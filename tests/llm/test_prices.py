"""Test the price of a token: from LiteLLM's list, from the user, or unknown."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from persona_pipeline.llm.prices import NO_COST, PRICE_LIST, Price, PriceSetting, price_of

ROOT = Path(__file__).parents[2]


def listed(name: str) -> dict[str, Any]:
    spec = find_spec("litellm")
    assert spec is not None
    assert spec.origin is not None
    prices: dict[str, dict[str, Any]] = json.loads(
        Path(spec.origin).with_name(PRICE_LIST).read_text()
    )
    return prices[name]


@pytest.mark.parametrize("model", ["gpt-4o-mini", "openai/gpt-4o-mini"])
def test_a_hosted_model_has_its_listed_price_with_and_without_its_provider(model: str) -> None:
    assert price_of(model, {}) == Price(1.5e-7, 7.5e-8, 6e-7, 0.5)


@pytest.mark.parametrize("model", ["deepseek/deepseek-chat", "mistral/mistral-small-latest"])
def test_a_model_that_is_listed_with_its_provider_only_is_found_by_that(model: str) -> None:
    price = price_of(model, {})
    assert price is not None
    assert price.input == listed(model)["input_cost_per_token"]
    assert price.output == listed(model)["output_cost_per_token"]


def test_another_provider_s_model_of_the_same_name_has_another_price() -> None:
    assert price_of("hosted_vllm/gpt-4o-mini", {}) is None
    assert price_of("anthropic/gpt-4o-mini", {}) is None


@pytest.mark.parametrize("model", ["hosted_vllm/my-own", "my-own", "", "/", "openai/", "sample"])
def test_the_price_of_a_model_that_nobody_lists_is_unknown(model: str) -> None:
    assert price_of(model, {}) is None


def test_a_listed_model_that_is_paid_for_otherwise_than_by_token_is_unknown() -> None:
    assert "input_cost_per_token" not in listed("tts-1")
    assert price_of("tts-1", {}) is None


@pytest.mark.parametrize("model", ["embedded/qwen2.5-coder-1.5b", "embedded//my.gguf", "fake/demo"])
def test_models_in_this_process_are_free(model: str) -> None:
    assert price_of(model, {}) == NO_COST
    assert NO_COST.cost(10**9, 10**6, 10**9) == 0.0


def test_a_user_s_own_price_goes_before_every_other() -> None:
    own = PriceSetting(input=2, output=8, cached_input=0.5, batch_share=0.25)
    for model in ("openai/gpt-4o-mini", "embedded/my.gguf", "hosted_vllm/my-own"):
        assert price_of(model, {model: own}) == Price(2e-6, 5e-7, 8e-6, 0.25)
    assert price_of("openai/gpt-4o", {"openai/gpt-4o-mini": own}) == price_of("gpt-4o", {})


def test_a_user_s_price_needs_no_more_than_that_of_the_input() -> None:
    assert price_of("a", {"a": PriceSetting(input=2)}) == Price(2e-6, 2e-6, 0.0, 1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"input": -1},
        {"input": 1, "output": -1},
        {"input": 1, "batch_share": 0},
        {"input": 1, "batch_share": 1.1},
        {"input": 1, "per": "token"},
    ],
)
def test_a_price_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PriceSetting(**wrong)


def test_cached_tokens_are_among_the_tokens_in() -> None:
    price = Price(input=2.0, cached_input=0.5, output=8.0)
    assert price.cost(10, 4, 3) == 6 * 2 + 4 * 0.5 + 3 * 8
    assert price.cost(0, 0, 0) == 0


def test_a_batch_costs_its_share_of_every_token() -> None:
    assert Price(2.0, 1.0, 8.0, 0.5).in_batches() == Price(1.0, 0.5, 4.0, 1.0)
    assert Price(2.0, 1.0, 8.0).in_batches() == Price(2.0, 1.0, 8.0)


def test_prices_are_read_without_the_seconds_that_importing_litellm_takes() -> None:
    program = (
        "import sys; from persona_pipeline.llm.prices import price_of; "
        "print(price_of('gpt-4o', {}).input, 'litellm' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "2.5e-06 False\n"
