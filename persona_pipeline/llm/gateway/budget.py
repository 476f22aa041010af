"""Enforce a hard cap on what a run buys: the worst case is reserved before a request is sent."""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from persona_pipeline.errors import PipelineError
from persona_pipeline.llm.prices import Price
from persona_pipeline.llm.requests import ChatRequest

TURN_TOKENS = 16
"""More tokens than any chat template adds around one turn."""


class BudgetExceeded(PipelineError):  # noqa: N818 - the end that the user asked for
    """Report that the next request could exceed the cap. The run stops, and can be continued."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Hold a number of tokens (input and output) and their cost."""

    tokens: int = 0
    usd: float = 0.0

    def __add__(self, other: "Amount") -> "Amount":
        """Return the sum of both."""
        return Amount(self.tokens + other.tokens, self.usd + other.usd)

    def __sub__(self, other: "Amount") -> "Amount":
        """Return the first without the second."""
        return Amount(self.tokens - other.tokens, self.usd - other.usd)


NOTHING = Amount()


@dataclass(frozen=True, slots=True)
class Cap:
    """Hold the most that may be spent. None means no cap."""

    tokens: int | None = None
    usd: float | None = None

    def holds(self, amount: Amount) -> bool:
        """Return whether the amount is within the cap."""
        tokens = self.tokens is None or amount.tokens <= self.tokens
        return tokens and (self.usd is None or amount.usd <= self.usd)

    def __str__(self) -> str:
        """Return the cap as the user wrote it."""
        usd = [] if self.usd is None else [f"{self.usd:g} USD"]
        tokens = [] if self.tokens is None else [f"{self.tokens:,} tokens"]
        return " and ".join(usd + tokens)


@dataclass(slots=True)
class _Account:
    cap: Cap
    spent: Amount = NOTHING
    reserved: Amount = NOTHING

    def has_room(self, worst: Amount) -> bool:
        return self.cap.holds(self.spent + self.reserved + worst)


NO_CAP = Cap()


@dataclass
class Budget:
    """Track what one run may spend, in total and in each stage.

    The amount spent includes calls that were sent and never answered: they may have been billed.
    """

    run: Cap = NO_CAP
    stages: Mapping[str, Cap] = field(default_factory=dict)
    _accounts: dict[str, _Account] = field(default_factory=dict)
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    @property
    def spent(self) -> Amount:
        """The amount that the whole run has spent so far."""
        return self._account("").spent

    @property
    def is_capped(self) -> bool:
        """Whether anything is capped at all."""
        return any(cap != NO_CAP for cap in (self.run, *self.stages.values()))

    async def reserve(self, stage: str, worst: Amount) -> None:
        """Reserve the worst case. Wait while calls in flight may turn out to cost less.

        Raises:
            BudgetExceeded: there is no room, and no call in flight could make some.
        """
        accounts = self._accounts_of(stage)
        while full := [account for account in accounts if not account.has_room(worst)]:
            if any(account.reserved == NOTHING for account in full):
                self._wake()
                msg = f"stopped at budget: {full[0].cap} ({self._where(full[0], stage)})"
                raise BudgetExceeded(msg)
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        for account in accounts:
            account.reserved += worst

    def settle(self, stage: str, worst: Amount, actual: Amount) -> None:
        """Replace the reserved amount by the amount spent."""
        for account in self._accounts_of(stage):
            account.reserved -= worst
            account.spent += actual
            if not account.reserved.tokens:
                account.reserved = NOTHING  # drop what rounding left
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _accounts_of(self, stage: str) -> list[_Account]:
        return [self._account(""), self._account(stage)]

    def _account(self, name: str) -> _Account:
        if name not in self._accounts:
            cap = self.stages.get(name, NO_CAP) if name else self.run
            self._accounts[name] = _Account(cap)
        return self._accounts[name]

    def _where(self, account: _Account, stage: str) -> str:
        return "this run" if account is self._accounts[""] else f"stage {stage}"


def worst_case(request: ChatRequest, price: Price | None) -> Amount:
    """Return the most that a request can use: no tokenizer makes more than one token of a byte.

    JSON writes a character outside ASCII in more bytes than UTF-8.
    """
    text = sum(len(message["content"].encode("utf-8", "replace")) for message in request.messages)
    around = TURN_TOKENS * (len(request.messages) + 1) + len(json.dumps(request.schema))
    tokens_in, tokens_out = text + around, request.sampling.max_tokens
    usd = price.cost(tokens_in, 0, tokens_out) if price else 0.0
    return Amount(tokens_in + tokens_out, usd)
