"""Connections to a server: how they are opened, through which proxy, and who pays."""

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
"""Who pays, where a key has several accounts."""
CONNECT_SECONDS = 15.0
DNS_SECONDS = 300


async def open_session(timeout: float) -> AsyncGenerator["ClientSession", None]:  # noqa: ASYNC109 - of each call
    """A session that ends with its event loop, which closes the generators left open in it."""
    import aiohttp  # noqa: PLC0415 - 0.3 seconds

    inside = import_litellm().llms.custom_httpx.http_handler
    connect = min(CONNECT_SECONDS, timeout / 2)  # so that a time-out of the whole means: sent
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, ttl_dns_cache=DNS_SECONDS, ssl=inside.get_ssl_configuration()
        ),
        timeout=aiohttp.ClientTimeout(total=timeout, connect=connect),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        yield session


def proxy_of(url: str) -> str | None:
    """As the environment says; found once, since aiohttp's way costs two threads per call."""
    address = urlsplit(url)
    return None if proxy_bypass(address.hostname or "") else getproxies().get(address.scheme)


def account_headers(provider: str) -> dict[str, str]:
    """Which of a key's accounts the environment names."""
    if provider != "openai":
        return {}
    return {
        header: os.environ[name] for name, header in OPENAI_HEADERS.items() if os.environ.get(name)
    }
