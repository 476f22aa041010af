"""Test the spending cap: it is never exceeded, and it stops a run only if no call can make room."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from persona_pipeline.llm.clients.fake import FakeChatClient
from persona_pipeline.llm.errors import CallError, CallErrorKind, ModelError
from persona_pipeline.llm.gateway.budget import (
    NOTHING,
    Amount,
    Budget,
    BudgetExceeded,
    Cap,
    worst_case,
)
from persona_pipeline.llm.gateway.context import StageUsage
from persona_pipeline.llm.gateway.gateway import Gateway
from persona_pipeline.llm.prices import Price
from persona_pipeline.llm.prompts import object_schema
from persona_pipeline.llm.requests import ChatReply, ChatRequest, Sampling
from tests.support.examples import FEWER
from tests.support.purchases import (
    GOOD,
    PRICE,
    QUICK,
    ScriptedClient,
    ignore,
    in_turn,
    journaled,
    make_request,
    open_gateway,
)

ROUNDING = 1e-9
STAGES = ("personas", "math")
CAPS = st.builds(
    Cap,
    tokens=st.none() | st.integers(0, 3000),
    usd=st.none() | st.floats(0, 3, allow_subnormal=False),
)


@dataclass(frozen=True, slots=True)
class Planned:
    """Describe one call: its worst case, and its real share of it (-1: it is not billed)."""

    stage: str
    worst: Amount
    share: float

    @property
    def actual(self) -> Amount:
        share = max(0.0, self.share)
        return Amount(int(self.worst.tokens * share), self.worst.usd * share)


CALLS = st.builds(
    Planned,
    st.sampled_from(STAGES),
    st.builds(Amount, st.integers(1, 700), st.floats(0, 0.7, allow_subnormal=False)),
    st.sampled_from([-1.0, 0.0, 0.3, 1.0]) | st.floats(0, 1, allow_subnormal=False),
)


@dataclass
class Provider:
    """Answer calls in the order of `turns`, and check the budget meanwhile."""

    budget: Budget
    turns: Sequence[int]
    spent: dict[str, Amount] = field(default_factory=lambda: dict.fromkeys(("", *STAGES), NOTHING))
    in_flight: list[tuple[Planned, asyncio.Future[None]]] = field(default_factory=list)
    refused: list[Planned] = field(default_factory=list)

    async def serve(self, calls: Sequence[Planned]) -> None:
        tasks = [asyncio.create_task(self._call(call)) for call in calls]
        for step in range(10_000):
            for _ in range(4):
                await asyncio.sleep(0)
            if not self.in_flight:
                break
            drawn = self.turns[step % len(self.turns)] % len(self.in_flight)
            self.in_flight.pop(drawn)[1].set_result(None)
        await asyncio.wait_for(asyncio.gather(*tasks), 60)

    async def _call(self, call: Planned) -> None:
        try:
            await self.budget.reserve(call.stage, call.worst)
        except BudgetExceeded:
            assert self.is_hopeless(call)
            self.refused.append(call)
            return
        over = asyncio.get_running_loop().create_future()
        self.in_flight.append((call, over))
        await over
        self.budget.settle(call.stage, call.worst, call.actual)
        for name in ("", call.stage):
            self.spent[name] += call.actual
            assert is_within(self.caps[name], self.spent[name])

    @property
    def caps(self) -> dict[str, Cap]:
        return {"": self.budget.run} | {
            name: self.budget.stages.get(name, Cap()) for name in STAGES
        }

    def is_hopeless(self, call: Planned) -> bool:
        """Return whether a cap without calls in flight has no room for the call."""
        flying = {""} | {planned.stage for planned, _ in self.in_flight}
        if not self.in_flight:
            flying = set()
        return any(
            name not in flying and not self.caps[name].holds(self.spent[name] + call.worst)
            for name in ("", call.stage)
        )


def is_within(cap: Cap, spent: Amount) -> bool:
    return (cap.tokens is None or spent.tokens <= cap.tokens) and (
        cap.usd is None or spent.usd <= cap.usd + ROUNDING
    )


@given(
    st.lists(CALLS, max_size=25),
    CAPS,
    st.dictionaries(st.sampled_from(STAGES), CAPS),
    st.lists(st.integers(0, 1000), min_size=1, max_size=10),
)
def test_whatever_calls_use_no_cap_is_exceeded_and_no_call_waits_for_ever(
    calls: list[Planned], run: Cap, stages: dict[str, Cap], turns: list[int]
) -> None:
    budget = Budget(run, stages)
    provider = Provider(budget, turns)
    asyncio.run(provider.serve(calls))
    if run != Cap():
        assert budget.spent.tokens == provider.spent[""].tokens
        assert budget.spent.usd == pytest.approx(provider.spent[""].usd)
    caps = [run, *stages.values()]
    assert budget.is_capped == any(cap != Cap() for cap in caps)
    if not budget.is_capped:
        assert not provider.refused


def test_a_call_waits_while_those_in_flight_may_turn_out_to_cost_less() -> None:
    async def spend() -> list[str]:
        budget, order = Budget(Cap(tokens=100)), []
        await budget.reserve("hub", Amount(80))

        async def second() -> None:
            await budget.reserve("hub", Amount(50))
            order.append("second")

        waiting = asyncio.create_task(second())
        await asyncio.sleep(0.01)
        order.append("first")
        budget.settle("hub", Amount(80), Amount(50))
        await waiting
        return order

    assert asyncio.run(spend()) == ["first", "second"]


def test_a_cancelled_waiter_does_not_hold_up_the_next_call() -> None:
    async def spend() -> Amount:
        budget = Budget(Cap(tokens=100))
        await budget.reserve("hub", Amount(80))
        waiting = [asyncio.create_task(budget.reserve("hub", Amount(50))) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        budget.settle("hub", Amount(80), Amount(10))
        await waiting[1]
        budget.settle("hub", Amount(50), Amount(50))
        return budget.spent

    assert asyncio.run(spend()) == Amount(60)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget(Cap(tokens=1000)), r"stopped at budget: 1,000 tokens \(this run\)"),
        (Budget(Cap(1000, 0.25)), r"stopped at budget: 0.25 USD and 1,000 tokens \(this run\)"),
        (
            Budget(Cap(9999), {"hub": Cap(usd=0.25)}),
            r"stopped at budget: 0.25 USD \(stage hub\)",
        ),
    ],
)
def test_a_reached_budget_says_which_one(budget: Budget, message: str) -> None:
    with pytest.raises(BudgetExceeded, match=message):
        asyncio.run(budget.reserve("hub", Amount(2000, 1.0)))


def test_a_million_roundings_leave_nothing_reserved() -> None:
    async def spend() -> None:
        budget = Budget(Cap(usd=1e6))
        amounts = [Amount(1, 0.1 + number * 0.7) for number in range(64)]
        for amount in amounts:
            await budget.reserve("hub", amount)
        for number in range(20_000):
            amount = amounts[number % 64]
            budget.settle("hub", amount, NOTHING)
            await budget.reserve("hub", amount)
        for amount in amounts:
            budget.settle("hub", amount, NOTHING)
        with pytest.raises(BudgetExceeded):
            await asyncio.wait_for(budget.reserve("hub", Amount(1, 1e6 + 1)), 60)

    asyncio.run(spend())


TEXTS = st.text(max_size=30)


def described(texts: dict[str, str]) -> dict[str, JsonValue]:
    """Return a schema with these texts as names and descriptions."""
    return object_schema(
        {name: {"type": "string", "description": text} for name, text in texts.items()}
    )


SCHEMAS = st.dictionaries(TEXTS, TEXTS, max_size=3).map(described)


@given(st.lists(TEXTS, min_size=1, max_size=3), SCHEMAS, st.integers(0, 500), st.floats(0, 1))
def test_the_worst_case_is_more_than_every_byte_and_the_longest_answer(
    contents: list[str], schema: dict[str, JsonValue], max_tokens: int, share: float
) -> None:
    request = ChatRequest(
        "fake/demo",
        tuple({"role": "user", "content": content} for content in contents),
        schema,
        Sampling(max_tokens=max_tokens),
    )
    sent = [*contents, json.dumps(schema, ensure_ascii=False)]
    tokens_in = sum(len(text.encode()) for text in sent) + 5 * len(contents)
    price = Price(0.01, 0.001, 0.1)
    worst = worst_case(request, price)
    assert worst.tokens >= tokens_in + max_tokens
    cached, out = int(tokens_in * share), int(max_tokens * share)
    assert worst.usd >= price.cost(tokens_in, cached, out) - ROUNDING
    assert worst_case(request, None) == Amount(worst.tokens)


def test_a_schema_in_any_script_is_counted_by_its_bytes() -> None:
    for text in ("漢" * 500, '"' * 500, "\n" * 500, "🚢" * 500):
        schema = object_schema({"a": {"enum": [text, "x"]}})
        request = make_request(schema=schema)
        sent = len(json.dumps(schema, ensure_ascii=False).encode()) + len("Who?")
        assert worst_case(request, None).tokens >= sent + 256


def test_half_a_character_is_counted_too() -> None:
    assert worst_case(make_request("\ud83d"), None).tokens > 256


MANY = [make_request(f"Who reads page {number}?") for number in range(50)]
WORST = worst_case(MANY[10], PRICE)


def buy_within(
    gateway: Gateway, budget: Budget, requests: Sequence[ChatRequest] = MANY
) -> StageUsage:
    gateway.budget = budget
    return gateway.buy(requests, ignore, shard="s", stage="hub")


@pytest.mark.parametrize(
    ("cap", "count"),
    [(Cap(tokens=WORST.tokens + 15 * 9 + 3), 10), (Cap(usd=WORST.usd + 0.591 * 9 + 0.1), 10)],
)
def test_a_run_stops_at_its_cap_keeps_what_was_bought_and_can_be_continued(
    cap: Cap, count: int
) -> None:
    client = ScriptedClient(in_turn(GOOD))
    with open_gateway(client) as gateway:
        with pytest.raises(BudgetExceeded, match=r"stopped at budget: .* \(this run\)"):
            buy_within(gateway, Budget(cap))
        assert len(journaled(gateway)) == client.asked.total() == count
        buy_within(gateway, Budget())
        assert len(journaled(gateway)) == client.asked.total() == len(MANY)


def test_a_stage_stops_at_its_own_cap_and_another_goes_on() -> None:
    budget = Budget(stages={"hub": Cap(tokens=WORST.tokens)})
    client = ScriptedClient(in_turn(GOOD))
    of_hub = [replace(request, stage="hub") for request in MANY]
    with open_gateway(client) as gateway:
        with pytest.raises(BudgetExceeded, match=r"\(stage hub\)"):
            buy_within(gateway, budget, of_hub)
        replace(gateway, budget=budget).buy(MANY, ignore, shard="s", stage="hub, by another name")
        assert len(journaled(gateway)) == len(MANY)


@pytest.mark.parametrize(
    ("error", "is_counted"),
    [
        (CallError(CallErrorKind.TRANSIENT, "broken", maybe_billed=True), True),
        (CallError(CallErrorKind.TRANSIENT, "timed out", maybe_billed=True, is_timeout=True), True),
        (CallError(CallErrorKind.TRANSIENT, "refused"), False),
        (CallError(CallErrorKind.RATE, "slow down"), False),
    ],
)
def test_a_call_that_may_have_been_billed_counts_with_its_worst_case(
    error: CallError, *, is_counted: bool
) -> None:
    budget = Budget(Cap(tokens=10_000))
    with open_gateway(ScriptedClient(in_turn(error, error, GOOD))) as gateway:
        buy_within(gateway, budget, MANY[10:11])
    assert budget.spent.tokens == 15 + 2 * WORST.tokens * is_counted


def test_a_call_in_flight_when_another_is_fatal_is_kept() -> None:
    class Slow(FakeChatClient):
        async def complete(self, request: ChatRequest, *, attempt: int = 0) -> ChatReply:
            if request is MANY[0]:
                await asyncio.sleep(0.05)
                raise CallError(CallErrorKind.FATAL, "bad key")
            await asyncio.sleep(0.3)
            return await super().complete(request, attempt=attempt)

    with open_gateway(Slow(), retry_policy=replace(QUICK, drain_seconds=0.05)) as gateway:
        with pytest.raises(ModelError, match="bad key"):
            buy_within(gateway, Budget())
        assert len(journaled(gateway)) == FakeChatClient.max_concurrency - 1


def test_an_answer_whose_server_does_not_say_its_tokens_counts_with_its_worst_case() -> None:
    budget = Budget(Cap(tokens=10_000))
    with open_gateway(ScriptedClient(in_turn(ChatReply(GOOD, is_metered=False)))) as gateway:
        totals = buy_within(gateway, budget, MANY[10:11])
    assert budget.spent.tokens == WORST.tokens
    assert totals.cost_usd is None


def test_an_unusable_answer_is_in_the_journal_when_the_cap_stops_the_retry() -> None:
    budget = Budget(Cap(tokens=WORST.tokens + 10))
    with open_gateway(ScriptedClient(in_turn("no JSON"))) as gateway:
        with pytest.raises(BudgetExceeded):
            buy_within(gateway, budget, MANY[10:11])
        [call] = journaled(gateway).values()
    assert (call.status, call.tokens_in, call.tokens_out) == ("failed", 10, 5)
    assert budget.spent.tokens == 15


@FEWER  # an example buys from a gateway with a journal
@given(
    st.integers(0, 20_000), st.lists(st.sampled_from(["good", "bad", "cut", "lost"]), min_size=1)
)
def test_what_is_journaled_never_passes_the_cap(cap: int, outcomes: list[str]) -> None:
    billed: Counter[str] = Counter()

    def answer(request: ChatRequest, before: int) -> ChatReply:
        outcome = outcomes[(int(request.call_key[:6], 16) + before) % len(outcomes)]
        billed["lost in a row"] = (billed["lost in a row"] + 1) % 6 if outcome == "lost" else 0
        if billed["lost in a row"]:  # more would be an outage
            billed["tokens"] += worst_case(request, None).tokens
            raise CallError(CallErrorKind.TRANSIENT, "broken", maybe_billed=True)
        used = worst_case(request, None).tokens - 256
        tokens_out = request.sampling.max_tokens
        billed["tokens"] += used + min(tokens_out, 256)
        text, reason = {
            "bad": ("no JSON", "stop"), "cut": (GOOD, "length")
        }.get(outcome, (GOOD, "stop"))  # fmt: skip
        return ChatReply(text, reason, used, 0, min(tokens_out, 256))

    budget = Budget(Cap(tokens=cap))
    with open_gateway(ScriptedClient(answer)) as gateway:
        try:
            buy_within(gateway, budget)
        except BudgetExceeded:
            is_reached = True
        else:
            is_reached = False
        assert budget.spent.tokens == billed["tokens"] <= cap
        calls = journaled(gateway).values()
        assert sum(call.tokens_in + call.tokens_out for call in calls) <= cap
        assert is_reached or len(calls) == len(MANY)
