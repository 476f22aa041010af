# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = ["litellm==1.106.2"]
# ///
"""Call `litellm.Router` with one deployment under a semaphore, without retries.

Its own `max_parallel_requests` raises an error for the calls beyond the limit, so it is not set.
"""

import asyncio
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["LITELLM_MODE"] = "PRODUCTION"

import litellm
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


def build_router(job: Job) -> litellm.Router:
    """Build a router with one deployment. The rate limits are lifted by not setting them."""
    parameters = {
        "model": f"openai/{MODEL}",
        "api_base": job.url,
        "api_key": API_KEY,
        "max_retries": 0,
    }
    deployment = {"model_name": MODEL, "litellm_params": parameters}
    return litellm.Router(model_list=[deployment], num_retries=0, timeout=60)


async def ask(router: litellm.Router, semaphore: asyncio.Semaphore, prompt: str) -> str:
    """Make one call through the router."""
    async with semaphore:
        answer = await router.acompletion(
            model=MODEL,
            messages=messages(prompt),
            max_tokens=MAX_TOKENS,
            temperature=TEMPERATURE,
            response_format=RESPONSE_FORMAT,
        )
    return str(answer.choices[0].message.content)


async def ask_all(job: Job) -> list[str]:
    """Ask all rows, at most `job.concurrency` at once."""
    router = build_router(job)
    semaphore = asyncio.Semaphore(job.concurrency)
    return await asyncio.gather(*(ask(router, semaphore, row.prompt) for row in job.rows))


def main() -> None:
    """Run the job."""
    job = read_job()
    with Meter() as meter:
        answers = asyncio.run(ask_all(job))
    pairs = zip((row.prompt for row in job.rows), answers, strict=True)
    meter.report(write_answers(job, pairs))


if __name__ == "__main__":
    main()
