"""Open connections to a server, through which proxy, and for which account."""

import os
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from persona_pipeline.llm.clients.litellm_client import import_litellm

if TYPE_CHECKING:
    from aiohttp import ClientSession


OPENAI_HEADERS = {
    "OPENAI_ORG_ID": "OpenAI-Organization",
    "OPENAI_ORGANIZATION": "OpenAI-Organization",
    "OPENAI_PROJECT_ID": "OpenAI-Project",
}
"""Headers that say who pays, where a key has several accounts."""
CONNECT_SECONDS = 15.0
DNS_SECONDS = 300


async def open_session(timeout: float) -> AsyncGenerator["ClientSession", None]:  # noqa: ASYNC109 - the time-out of each call
    """Open a session that ends with its event loop, which closes the generators left open in it."""
    import aiohttp  # noqa: PLC0415 - 0.3 seconds

    inside = import_litellm().llms.custom_httpx.http_handler
    # so that a time-out of the whole call means that it was sent
    connect = min(CONNECT_SECONDS, timeout / 2)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, ttl_dns_cache=DNS_SECONDS, ssl=inside.get_ssl_configuration()
        ),
        timeout=aiohttp.ClientTimeout(total=timeout, connect=connect),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        yield session


def proxy_of(url: str) -> str | None:
    """Return the environment's proxy.

    The caller keeps the result, since aiohttp's own lookup takes two threads per call.
    """
    address = urlsplit(url)
    return None if proxy_bypass(address.hostname or "") else getproxies().get(address.scheme)


def account_headers(provider: str) -> dict[str, str]:
    """Return the headers for the account that the environment names."""
    if provider != "openai":
        return {}
    return {
        header: os.environ[name] for name, header in OPENAI_HEADERS.items() if os.environ.get(name)
    }
