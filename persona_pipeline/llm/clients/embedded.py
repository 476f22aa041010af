"""Run a GGUF model in this process with llama.cpp (xllamacpp): no server, no key, no network."""

import os
from functools import cache
from pathlib import Path
from typing import Any

from persona_pipeline.llm.errors import CallError, CallErrorKind, ModelError
from persona_pipeline.llm.grammars import as_grammar_schema
from persona_pipeline.llm.loop_thread import in_daemon_thread
from persona_pipeline.llm.requests import ChatReply, ChatRequest

SLOTS = 1
"""Answers written at the same time. Each slot reads the examples of a prompt for itself, and the
page once more for its second question: of the same 12 requests, two slots take 1.5 times the
CPU-seconds of one on two cores, and four take 1.9 times."""
CONTEXT_TOKENS = 4096
"""Tokens per slot. The longest prompt of the main job takes about 1,500."""
MIN_P = 0.05
"""Cuts the unlikely tail that makes small models ramble (measured with both Qwen sizes)."""
AGAINST_LOOPS = {
    "dry_multiplier": 0.8,
    "dry_base": 1.75,
    "dry_allowed_length": 12,
    "dry_penalty_last_n": 160,
}
"""llama.cpp's DRY sampler. With it, articles that run in circles nearly disappeared (measured)."""
PROMPT_CACHE_MIB = 256
"""Memory for prompts that may repeat. The default of 8 GiB would fill up over a long run."""


class EmbeddedChatClient:
    """Hold one loaded model. Requests go to its continuous-batching server."""

    max_concurrency = SLOTS

    def __init__(self, path: Path) -> None:
        """Load the GGUF file, which takes 2 to 4 seconds."""
        self._server = _load(path)

    async def complete(self, request: ChatRequest, *, attempt: int = 0) -> ChatReply:
        """Write one answer under the request's JSON schema."""
        ask = self._server.handle_chat_completions
        try:
            answer = await in_daemon_thread(ask, _body(request, attempt))
        except RuntimeError as error:  # of llama.cpp, as for a pattern that it cannot read
            raise CallError(CallErrorKind.PERMANENT, str(error)) from error
        if "error" in answer:
            raise CallError(CallErrorKind.PERMANENT, str(answer["error"].get("message", answer)))
        choice, usage = answer["choices"][0], answer.get("usage", {})
        return ChatReply(
            text=choice["message"]["content"] or "",
            finish_reason=choice["finish_reason"],
            tokens_in=usage.get("prompt_tokens", 0),
            tokens_cached=(usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0),
            tokens_out=usage.get("completion_tokens", 0),
        )

    async def close(self) -> None:
        """Free nothing: the model stays loaded for the process's next stage."""


def _body(request: ChatRequest, attempt: int) -> dict[str, Any]:
    drawn = {"temperature": request.sampling.temperature, "top_p": request.sampling.top_p}
    return {
        "messages": list(request.messages),
        **{name: value for name, value in drawn.items() if value is not None},
        "min_p": MIN_P,
        **AGAINST_LOOPS,
        "max_tokens": request.sampling.max_tokens,
        "seed": (int(request.call_key[:7], 16) + attempt) & 0x7FFFFFFF,
        "cache_prompt": True,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": as_grammar_schema(request.schema)},
        },
        **request.parameters,
    }


@cache
def _load(path: Path) -> Any:  # noqa: ANN401 - xllamacpp ships no types
    # without it, 2 to 5 tokens/s on a busy machine
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    try:
        import xllamacpp  # noqa: PLC0415 - 34 MB, needed only by this client
    except ImportError as error:
        msg = (
            f"the embedded model needs the system library libgomp ({error}): run "
            "'apt-get install libgomp1', or choose a served model with --model"
        )
        raise ModelError(msg) from error
    if not path.is_file():
        msg = f"no model file at {path}: give the path of a GGUF file, as --model embedded/{path}"
        raise ModelError(msg)
    return _start_server(xllamacpp, path)


def _start_server(xllamacpp: Any, path: Path) -> Any:  # noqa: ANN401 - xllamacpp ships no types
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_parallel = SLOTS
    params.n_ctx = CONTEXT_TOKENS * SLOTS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = os.cpu_count() or 2
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.ui = False
    params.verbosity = -1
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        msg = f"{path} could not be loaded as a GGUF model: {error}"
        raise ModelError(msg) from error
