"""Give a model that thinks room for its thoughts, beside the room for its answer."""

import json
from dataclasses import dataclass, replace

from persona_pipeline.llm.answers import is_all_thoughts
from persona_pipeline.llm.calls import Answer
from persona_pipeline.llm.requests import ChatReply, ChatRequest

ROOM = "reasoning_tokens"
"""The setting, and its name among the parameters of a call that had room for thoughts."""


@dataclass(slots=True)
class Thinking:
    """Hold the room for the thoughts of one model.

    It is no part of a call's key: the same question is asked, and its answer is as good. `tokens`:
    tokens that are added to an answer's own. `is_known`: whether the model thinks, from LiteLLM's
    list or from one of its replies.
    """

    tokens: int = 4096
    is_known: bool = False

    @property
    def room(self) -> int:
        """The tokens that are added to the first try: none for a model that does not think."""
        return self.tokens if self.is_known else 0

    def with_room(self, request: ChatRequest) -> ChatRequest:
        """Return the request with room for thoughts, if its model thinks."""
        if not self.room:
            return request
        tokens = request.sampling.max_tokens + self.room
        sampling = replace(request.sampling, max_tokens=tokens)
        return replace(request, sampling=sampling, origin=request.origin or request.call_key)

    def learn(self, reply: ChatReply) -> None:
        """Note that the model thinks, if its thoughts left no room for its answer."""
        self.is_known |= is_all_thoughts(reply)

    def outgrows(self, answer: Answer) -> bool:
        """Return whether an answer failed for less room than there is now, so is asked again."""
        if answer.status != "invalid":
            return False
        reply = ChatReply(answer.response or "", answer.finish_reason or "")
        earlier = room_of(answer)
        failed_for_room = is_all_thoughts(reply) or (earlier > 0 and reply.is_cut_off)
        return failed_for_room and earlier < self.tokens


def room_of(answer: Answer) -> int:
    """Return the room for thoughts that the call had; 0: none."""
    try:
        room = json.loads(answer.params or "{}").get(ROOM)
    except (ValueError, AttributeError):
        return 0
    return room if isinstance(room, int) else 0
