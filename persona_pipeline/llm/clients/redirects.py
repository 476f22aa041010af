"""Name the address that a server sends calls on to, most often from http to https.

A call that follows it is lost: after 301 and 302 it becomes a GET without a body, and at another
origin it has no key (both in aiohttp 3.14 and in the httpx of LiteLLM). What comes back, "HTTP 405"
or "HTTP 401: no key", says nothing of it.
"""

import re
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

from persona_pipeline.llm.errors import CallError, CallErrorKind

CHAT_PATH, EMBEDDING_PATH = "chat/completions", "embeddings"
SIGNS = re.compile(r"HTTP (30[12378]|401|404|405|501)\b")
"""How the errors begin that a lost call may have."""
REDIRECTS = frozenset(
    {
        *(HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND, HTTPStatus.SEE_OTHER),
        *(HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT),
    }
)
SECONDS = 10


class Redirects:
    """Look once whether a server of one's own redirects, when a call to it has failed."""

    def __init__(self, api_base: str | None, path: str) -> None:
        """Take the server's address, None for a provider's own, and the path of its calls."""
        self._base = (api_base or "").rstrip("/")
        self._path = f"/{path}"
        self._target: str | None = None
        self._has_looked = api_base is None

    async def explain(self, error: CallError) -> CallError:
        """Return the error, or one that names the address to set and repeats its words."""
        if not SIGNS.match(str(error)):
            return error
        if not self._has_looked:  # several failed calls may look at the same time
            self._target = await self._find_target()
            self._has_looked = True
        if self._target is None:
            return error
        base = self._target.removesuffix(self._path)
        own = self._base.partition("?")[0]
        message = f"{own} sends calls on to {base}: set api_base to that (it said: {error})"
        return CallError(CallErrorKind.FATAL, message)

    async def _find_target(self) -> str | None:
        """Return where the server sends whoever asks there, without a key; None: nowhere.

        A page to log in, or of help, is no such place: its path is another.
        """
        import aiohttp  # noqa: PLC0415 - 0.3 seconds

        url = self._base + self._path
        try:
            async with (
                aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=SECONDS), trust_env=True
                ) as session,
                session.head(url, allow_redirects=False) as response,
            ):
                place = response.headers.get("Location", "")
                if response.status not in REDIRECTS:
                    return None
            parts = urlsplit(urljoin(url, place))
            address = parts.netloc.rpartition("@")[2]  # without a user and password
        except (aiohttp.ClientError, OSError, ValueError):
            return None
        target = parts._replace(netloc=address, query="", fragment="").geturl()
        return target if target != url and parts.path.endswith(self._path) else None
