"""Change requests as the settings say: sampling and parameters, per model and stage."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import JsonValue

from persona_pipeline.hashing import canonical_json
from persona_pipeline.llm.requests import ChatRequest, runs_here

Changes = Mapping[str, Mapping[str, Any]]
"""Values by parameter, by model or stage. A stage's values win over a model's."""


@dataclass(frozen=True)
class RequestOptions:
    """Hold what is asked of a model in another way than its prompt says.

    What is not set changes no request, and so no call key. `reasoning_effort` goes to every served
    model.
    """

    sampling: Changes = field(default_factory=dict)
    parameters: Changes = field(default_factory=dict)
    reasoning_effort: str | None = None

    def apply(self, request: ChatRequest, model: str = "") -> ChatRequest:
        """Return the request as it is sent to `model`, or to its own.

        The options of the model that it was meant for are taken back.
        """
        model = model or request.model
        plain = request.plain or request
        sampling = replace(plain.sampling, **self._values(self.sampling, model, plain.stage))
        parameters = self._parameters(model, plain.stage)
        if model == request.model and (sampling, parameters) == (
            request.sampling, request.parameters
        ):  # fmt: skip
            return request
        plain = replace(plain, model=model)
        if (sampling, parameters) == (plain.sampling, plain.parameters):
            return plain
        return replace(plain, sampling=sampling, parameters=parameters, plain=plain)

    def version(self, model: str, stage: str) -> tuple[str, ...]:
        """Return what is part of the version of a table that the model writes: nothing if unset."""
        sampling = self._values(self.sampling, model, stage)
        parameters = self._parameters(model, stage)
        return (canonical_json([sampling, parameters]),) if sampling or parameters else ()

    def _parameters(self, model: str, stage: str) -> dict[str, JsonValue]:
        effort: dict[str, JsonValue] = {}
        if self.reasoning_effort and not runs_here(model):
            effort["reasoning_effort"] = self.reasoning_effort
        return {**effort, **self._values(self.parameters, model, stage)}

    @staticmethod
    def _values(changes: Changes, model: str, stage: str) -> dict[str, Any]:
        return {**changes.get(model, {}), **changes.get(stage, {})}


AS_THE_PROMPTS_SAY = RequestOptions()
"""Options that change nothing."""
