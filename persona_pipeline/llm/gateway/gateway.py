"""Buy answers: each call key once. Every answer is journaled the moment it arrives."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

from persona_pipeline.llm.calls import Answer
from persona_pipeline.llm.gateway.budget import Budget
from persona_pipeline.llm.gateway.context import AnswerStore, Receive, StageContext, StageUsage
from persona_pipeline.llm.gateway.endpoint import OpenEndpoint
from persona_pipeline.llm.gateway.journal import Journal
from persona_pipeline.llm.gateway.purchase import Purchase
from persona_pipeline.llm.gateway.retry_policy import RetryPolicy
from persona_pipeline.llm.loop_thread import run_in_loop_thread
from persona_pipeline.llm.progress import stage_progress
from persona_pipeline.llm.request_options import AS_THE_PROMPTS_SAY, RequestOptions
from persona_pipeline.llm.requests import ChatRequest

LAST_SECONDS = 0.1
"""Seconds to close connections and the journal, after calls in flight had their time."""


@dataclass
class Gateway:
    """Answer requests from what was bought before, and buy the rest.

    `fallbacks`: models to ask in turn when the request's own model gives no usable answer.
    `options`: what is asked of them in another way than the prompts say. `usage`: what each stage
    has used so far, by stage.
    """

    endpoints: OpenEndpoint
    journal: Journal
    store: AnswerStore
    budget: Budget = field(default_factory=Budget)
    fallbacks: tuple[str, ...] = ()
    options: RequestOptions = AS_THE_PROMPTS_SAY
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    usage: dict[str, StageUsage] = field(default_factory=dict)

    def answers(
        self, requests: Iterable[ChatRequest], *, shard: str, stage: str
    ) -> dict[str, Answer]:
        """Return one answer per distinct call key, in the order of the requests.

        Raises:
            ModelError: the model cannot be used at all (bad key, no such model, no answers).
            BudgetExceeded: the budget does not cover the remaining requests.
        """
        wanted = {request.call_key: request for request in requests}
        received: dict[str, Answer] = {}
        self.buy(wanted.values(), received.__setitem__, shard=shard, stage=stage, count=len(wanted))
        return {key: received[key] for key in wanted}

    def buy(
        self,
        requests: Iterable[ChatRequest],
        receive: Receive,
        *,
        shard: str,
        stage: str,
        count: int = 0,
    ) -> StageUsage:
        """Hand each distinct request's answer to `receive` as it arrives, in any order.

        The number of requests is not limited: `requests` is read only as far as keeps the model
        busy. `receive` is called in another thread. `count` is the number of requests, if known,
        for the progress.

        Raises:
            ModelError, BudgetExceeded: as in `answers`.
        """
        remaining = iter(requests)
        first = next(remaining, None)
        if first is None:
            return StageUsage()
        context = StageContext(
            shard=shard,
            stage=stage,
            endpoints=self.endpoints,
            fallbacks=self.fallbacks,
            journal=self.journal,
            store=self.store,
            budget=self.budget,
            retry_policy=self.retry_policy,
            options=self.options,
        )
        endpoint = self.endpoints(first.model)
        with stage_progress(stage, 0) as tracker:
            purchase = Purchase(context, endpoint, tracker, receive, count)
            self.usage[stage] = purchase.stage_usage
            started = time.monotonic()
            try:
                run_in_loop_thread(
                    lambda: purchase.run(chain([first], remaining)),
                    hold=purchase.hold,
                    stop=purchase.stop,
                    grace=self.retry_policy.drain_seconds + LAST_SECONDS,
                )
            finally:
                purchase.stage_usage.seconds = time.monotonic() - started
        return purchase.stage_usage
