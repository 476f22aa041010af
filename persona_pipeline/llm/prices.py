"""Look up what a token costs: the user's own prices first, then LiteLLM's packaged price list."""

import importlib.util
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from persona_pipeline.errors import SettingsError
from persona_pipeline.llm.requests import runs_here

PRICE_LIST = "model_prices_and_context_window_backup.json"
"""The file in LiteLLM's package. Reading it takes 50 ms, importing LiteLLM 3 s."""
MILLION = 1_000_000
OUTPUTS = ("output_cost_per_token", "output_cost_per_reasoning_token")
"""The higher price is counted: no usage report separates reasoning tokens from written ones."""
FEES = ("input_cost_per_request", "citation_cost_per_token")
SEARCHING = ("perplexity",)
"""Providers that charge a fee per request on top of the tokens. Their price counts as unknown."""


class PriceSetting(BaseModel):
    """Hold a model's price in USD per million tokens, as users write it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: float = Field(ge=0)
    output: float = Field(default=0.0, ge=0)
    cached_input: float | None = Field(default=None, ge=0)
    """The price of input tokens that the provider had in its cache. By default that of other
    input."""
    batch_share: float = Field(default=1.0, gt=0, le=1)
    """What a batch costs, as a share of the price of single calls."""


@dataclass(frozen=True, slots=True)
class Price:
    """Hold a price in USD per token, and the share of it that a batch costs."""

    input: float
    cached_input: float
    output: float
    batch_share: float = 1.0

    def cost(self, tokens_in: int, tokens_cached: int, tokens_out: int) -> float:
        """Return the USD that one answer costs. `tokens_in` includes `tokens_cached`."""
        fresh = tokens_in - tokens_cached
        return fresh * self.input + tokens_cached * self.cached_input + tokens_out * self.output

    def in_batches(self) -> "Price":
        """Return the price of the same tokens through a provider's batch API."""
        share = self.batch_share
        return Price(self.input * share, self.cached_input * share, self.output * share)


NO_COST = Price(0.0, 0.0, 0.0)


def price_of(model: str, own: Mapping[str, PriceSetting]) -> Price | None:
    """Return the price of a model by its LiteLLM name, or None if no list has it."""
    if model in own:
        return _from_setting(own[model])
    if runs_here(model):
        return NO_COST
    entry = _listed(model)
    return _from_entry(entry) if entry else None


def _from_setting(price: PriceSetting) -> Price:
    cached = price.input if price.cached_input is None else price.cached_input
    return Price(price.input / MILLION, cached / MILLION, price.output / MILLION, price.batch_share)


def _listed(model: str) -> dict[str, Any] | None:
    """Find a hosted model, which is listed with its provider's prefix or without it."""
    prices = _price_list()
    provider, _, name = model.partition("/")
    if model in prices:
        return prices[model]
    entry = prices.get(name, {})
    return entry if entry.get("litellm_provider") == provider else None


def _from_entry(entry: Mapping[str, Any]) -> Price | None:
    """Return the listed price, or None if tokens are not all that is charged."""
    has_fee = any(entry.get(fee) for fee in FEES) or entry.get("litellm_provider") in SEARCHING
    if "input_cost_per_token" not in entry or has_fee:
        return None
    paid_in = float(entry["input_cost_per_token"])
    cached = float(entry.get("cache_read_input_token_cost") or paid_in)
    in_batches = entry.get("input_cost_per_token_batches")
    share = float(in_batches) / paid_in if in_batches and paid_in else 1.0
    paid_out = max(float(entry.get(name) or 0.0) for name in OUTPUTS)
    return Price(paid_in, cached, paid_out, share)


@cache
def _price_list() -> dict[str, dict[str, Any]]:
    package = importlib.util.find_spec("litellm")
    if package is None or package.origin is None:
        msg = "LiteLLM is not installed: run 'uv sync'"
        raise SettingsError(msg)
    path = Path(package.origin).parent / PRICE_LIST
    listed: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return listed


def known_sum(amounts: Iterable[float | None]) -> float | None:
    """Return the sum, or None if one of the amounts is unknown."""
    total = 0.0
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total
