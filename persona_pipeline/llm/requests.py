"""What is asked of a chat model, what comes back, and the key that makes two requests the same."""

from dataclasses import asdict, dataclass, field

from pydantic import JsonValue

from persona_pipeline.hashing import stable_id

KEY_VERSION = 1
"""Part of every call key: raised when the meaning of a request changes."""


Message = dict[str, str]
"""One chat turn: `role` (system, user, assistant) and `content`."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the model draws its answer; `max_tokens` bounds the answer's length and its price."""

    temperature: float = 0.7
    top_p: float = 0.9
    max_tokens: int = 256


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One answer to buy; stage, prompt name and version are labels, not part of the key."""

    model: str
    messages: tuple[Message, ...]
    schema: dict[str, JsonValue]
    sampling: Sampling
    sample: int = 0
    stage: str = field(default="", compare=False)
    prompt_name: str = field(default="", compare=False)
    prompt_version: str = field(default="", compare=False)

    @property
    def call_key(self) -> str:
        """The same for the same purchase: never the URL, the API key, timeouts or row ids."""
        messages: list[JsonValue] = [{**message} for message in self.messages]
        return stable_id(
            KEY_VERSION, self.model, messages, self.schema, asdict(self.sampling), self.sample
        )


@dataclass(frozen=True, slots=True)
class ChatReply:
    """One answer as it came: its text and what it used. A cost of None means: price unknown."""

    text: str
    finish_reason: str = "stop"
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    cost_usd: float | None = None
