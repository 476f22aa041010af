"""Say how each provider's batches are reached through LiteLLM, and refuse those that are not.

LiteLLM 1.106.2 creates, finds and collects batches of OpenAI's form, and those of Azure. It creates
and collects those of Mistral, and cannot list them. Of Anthropic it only retrieves, and of Gemini
it has files only: neither can be bought through it. Those of bedrock, vertex_ai and xai have forms
of their own.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from persona_pipeline.llm.clients.dialect import Dialect, request_params
from persona_pipeline.llm.clients.litellm_client import import_litellm, translate
from persona_pipeline.llm.clients.routes import SENT_PARAMS, find_endpoint, mapped_params
from persona_pipeline.llm.errors import CallError, CallErrorKind, ModelError
from persona_pipeline.llm.requests import ChatRequest

PROVIDERS = ("openai", "hosted_vllm", "azure", "mistral")
ENDPOINT = "/v1/chat/completions"
AZURE_ENDPOINT = "/chat/completions"
"""What Azure calls the same in a batch."""
AZURE_KEYS = ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY")


@dataclass(frozen=True, slots=True)
class BatchRoute:
    """Hold how one model's batches are reached.

    Attributes:
        provider: what LiteLLM is told. It ignores the address of other servers of OpenAI's form.
        address: of the server.
        key: of the account.
        endpoint: what the batch asks.
        can_list: whether LiteLLM can list the batches, and so find one whose id was lost.
        more: what LiteLLM needs besides.
    """

    provider: str
    address: str
    key: str = field(repr=False)
    endpoint: str = ENDPOINT
    can_list: bool = True
    more: Mapping[str, str] = field(default_factory=dict)

    def line(self, custom_id: str, body: bytes) -> bytes:
        """Return one line of the uploaded file."""
        if self.provider == "mistral":  # the model is that of the job, not of a line
            sent = {name: value for name, value in json.loads(body).items() if name != "model"}
            return json.dumps({"custom_id": custom_id, "body": sent}).encode() + b"\n"
        head = f'{{"custom_id":"{custom_id}","method":"POST","url":"{self.endpoint}","body":'
        return head.encode() + body + b"}\n"


def check_batches(model: str) -> None:
    """Refuse a model whose provider has no batches that we can use.

    Raises:
        ModelError: the message names the providers that have them.
    """
    provider, slash, _ = model.partition("/")
    if slash and provider not in PROVIDERS:
        raise ModelError(unsupported(model))


def unsupported(model: str) -> str:
    """Return why the model's answers cannot be bought in batches, and what to do."""
    *others, last = (f"{provider}/..." for provider in PROVIDERS)
    return (
        f"there is no batch API for {model}: batches work with {', '.join(others)} and {last}. A "
        "provider with OpenAI's batch API is asked as openai/<model> with its --api-base; else "
        "leave out --batch"
    )


def find_route(model: str, api_base: str | None, api_key: str | None) -> BatchRoute:
    """Return how the model's batches are reached.

    Raises:
        CallError: there is no way, or its key or address is missing.
    """
    if model.startswith("azure/"):
        return _azure_route(api_base, api_key)
    litellm = import_litellm()
    try:
        endpoint = find_endpoint(model, api_base, api_key)
    except litellm.exceptions.openai.OpenAIError as error:
        raise translate(error, api_key) from None
    if endpoint is None or endpoint.provider not in PROVIDERS:
        raise CallError(CallErrorKind.FATAL, unsupported(model))
    if endpoint.provider == "mistral":
        job = {"model": f"mistral/{endpoint.name}"}
        return BatchRoute("mistral", endpoint.address, endpoint.key, can_list=False, more=job)
    return BatchRoute("openai", endpoint.address, endpoint.key)


def azure_body(request: ChatRequest) -> bytes | None:
    """Return the body of a request to an Azure deployment; None if a schema needs another form."""
    name = request.model.removeprefix("azure/")
    asked = request_params(request, Dialect(), is_own_server=False)
    params: dict[str, Any] = mapped_params(name, "azure", asked)
    if "tools" in params:
        return None
    sent = {key: value for key, value in params.items() if key in SENT_PARAMS}
    return json.dumps({"model": name, "messages": list(request.messages), **sent}).encode()


def _azure_route(api_base: str | None, api_key: str | None) -> BatchRoute:
    address = api_base or os.environ.get("AZURE_API_BASE", "")
    known = (os.environ.get(name, "").strip() for name in AZURE_KEYS)
    key = api_key or next(filter(None, known), "")
    if not address or not key:
        what = "address: give --api-base" if not address else f"API key: set {AZURE_KEYS[-1]}"
        raise CallError(CallErrorKind.FATAL, f"no {what}, for azure")
    version = os.environ.get("AZURE_API_VERSION") or import_litellm().AZURE_DEFAULT_API_VERSION
    return BatchRoute("azure", address, key, AZURE_ENDPOINT, more={"api_version": version})
