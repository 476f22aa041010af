# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = ["aiohttp==3.14.5"]
# ///
"""Call with bare aiohttp: one session, one semaphore, no retry, no cache.

This is the floor for a Python client.
"""

import asyncio

import aiohttp
from adapter import (
    API_KEY,
    MAX_TOKENS,
    MODEL,
    RESPONSE_FORMAT,
    TEMPERATURE,
    Job,
    Meter,
    messages,
    read_job,
    write_answers,
)


async def ask(
    job: Job, session: aiohttp.ClientSession, semaphore: asyncio.Semaphore, prompt: str
) -> str:
    """Make one call. Any status but 200 raises."""
    payload = {
        "model": MODEL,
        "messages": messages(prompt),
        "max_tokens": MAX_TOKENS,
        "temperature": TEMPERATURE,
        "response_format": RESPONSE_FORMAT,
    }
    async with semaphore, session.post(f"{job.url}/chat/completions", json=payload) as response:
        response.raise_for_status()
        answer = await response.json()
    return str(answer["choices"][0]["message"]["content"])


async def ask_all(job: Job) -> list[str]:
    """Ask all rows, at most `job.concurrency` at once."""
    semaphore = asyncio.Semaphore(job.concurrency)
    connector = aiohttp.TCPConnector(limit=job.concurrency)
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        return await asyncio.gather(*(ask(job, session, semaphore, row.prompt) for row in job.rows))


def main() -> None:
    """Run the job."""
    job = read_job()
    with Meter() as meter:
        answers = asyncio.run(ask_all(job))
    pairs = zip((row.prompt for row in job.rows), answers, strict=True)
    meter.report(write_answers(job, pairs))


if __name__ == "__main__":
    main()
