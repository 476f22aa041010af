"""Define a chat request, its reply, and the key that makes two requests the same."""

import re
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from json.encoder import encode_basestring

from pydantic import JsonValue

from persona_pipeline.hashing import canonical_json, digest

KEY_VERSION = 1
"""Part of every call key. Raise it when the meaning of a request changes."""
MOST_SCHEMAS = 256
MOST_TURNS = 512
"""Turns that are kept encoded: requests share all but the last one."""
TURN = {"content", "role"}
CUT_OFF = re.compile("length|max|limit|incomplete|context_window", re.IGNORECASE)
"""Matches the finish reasons of an answer that ran out of tokens: `length`, `max_tokens`,
`model_length`, `MAX_TOKENS`, `max_output_tokens`, `token_limit`."""
BROKEN_OFF = re.compile("error|abort|cancel|fail", re.IGNORECASE)
"""Matches the finish reasons of a server that gave up: `error` (OpenRouter), `abort` (vLLM),
`network_error` (Z.ai)."""
_SCHEMAS: dict[int, tuple[dict[str, JsonValue], str]] = {}

Message = dict[str, str]
"""One chat turn: `role` (system, user, assistant) and `content`."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Set how the model draws its answer. `max_tokens` bounds the answer's length and its price.

    None: the parameter is not sent, so that the server's own value holds.
    """

    temperature: float | None = 0.7
    top_p: float | None = 0.9
    max_tokens: int = 256


@dataclass(frozen=True)
class ChatRequest:
    """Ask for one answer. Stage, prompt name and version are labels, not part of the key.

    `parameters`: what else is sent to the server, as it is. `origin`: the key of the request that
    this one repeats in other words. `plain`: the request as its prompt makes it, if settings have
    changed its sampling or parameters.
    """

    model: str
    messages: tuple[Message, ...]
    schema: dict[str, JsonValue]
    sampling: Sampling
    sample: int = 0
    parameters: dict[str, JsonValue] = field(default_factory=dict)
    stage: str = field(default="", compare=False)
    prompt_name: str = field(default="", compare=False)
    prompt_version: str = field(default="", compare=False)
    origin: str = field(default="", compare=False)
    plain: "ChatRequest | None" = field(default=None, compare=False, repr=False)

    @cached_property
    def messages_json(self) -> str:
        """The messages as canonical JSON."""
        return f"[{','.join(_turn_json(message) for message in self.messages)}]"

    @cached_property
    def schema_json(self) -> str:
        """The schema as canonical JSON."""
        return schema_json(self.schema)

    @cached_property
    def call_key(self) -> str:
        """The identity of the purchase, without URL, API key, timeouts or row ids.

        It is the `stable_id` of the parts. Joining the texts that requests share takes 8 us, not
        60. Parameters are a part only if there are any.
        """
        parameters = (canonical_json(self.parameters),) if self.parameters else ()
        parts = (
            str(KEY_VERSION),
            canonical_json(self.model),
            self.messages_json,
            self.schema_json,
            sampling_json(self.sampling),
            str(self.sample),
            *parameters,
        )
        return digest(f"[{','.join(parts)}]")


def runs_here(model: str) -> bool:
    """Return whether the model runs inside this process, and so has no server and no price."""
    return model.startswith(("embedded/", "fake/"))


def schema_json(schema: dict[str, JsonValue]) -> str:
    """Return a schema as canonical JSON, encoded once: the requests of a stage share one object.

    The cache knows a schema by its identity, so never change a schema after its first use.
    """
    known = _SCHEMAS.get(id(schema))
    if known is None or known[0] is not schema:
        if len(_SCHEMAS) >= MOST_SCHEMAS:
            _SCHEMAS.clear()
        known = _SCHEMAS[id(schema)] = schema, canonical_json(schema)
    return known[1]


def sampling_json(sampling: Sampling) -> str:
    """Return sampling settings as canonical JSON."""
    return _sampling_json(sampling.temperature, sampling.top_p, sampling.max_tokens)


@lru_cache(maxsize=256, typed=True)
def _sampling_json(temperature: float | None, top_p: float | None, max_tokens: int) -> str:
    """Encode the settings.

    The cache is typed, because 1 and 1.0 are equal but are written differently.
    """
    return canonical_json(asdict(Sampling(temperature, top_p, max_tokens)))


def _turn_json(message: Message) -> str:
    """Return the bytes of `canonical_json`, in less time if requests share the turn."""
    if message.keys() == TURN:
        return _known_turn_json(message["content"], message["role"])
    return canonical_json({**message})


@lru_cache(maxsize=MOST_TURNS)
def _known_turn_json(content: str, role: str) -> str:
    return f'{{"content":{encode_basestring(content)},"role":{encode_basestring(role)}}}'


@dataclass(frozen=True, slots=True)
class ChatReply:
    """Hold one answer as it arrived: its text and the tokens it used.

    `is_metered`: whether the server reported the tokens. If not, a budget counts the worst case.
    `reasoning`: the model's thoughts, if the server sends them apart from the answer.
    """

    text: str
    finish_reason: str = "stop"
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    is_metered: bool = True
    reasoning: str = ""

    @property
    def is_cut_off(self) -> bool:
        """Whether the model ran out of tokens."""
        return bool(CUT_OFF.search(self.finish_reason))
