# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = ["litellm==1.106.2"]
# ///
"""Call `litellm.acompletion` under a semaphore, without retries."""

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


async def ask(job: Job, semaphore: asyncio.Semaphore, prompt: str) -> str:
    """Make one call through LiteLLM's OpenAI-compatible provider."""
    async with semaphore:
        answer = await litellm.acompletion(
            model=f"openai/{MODEL}",
            api_base=job.url,
            api_key=API_KEY,
            messages=messages(prompt),
            max_tokens=MAX_TOKENS,
            temperature=TEMPERATURE,
            response_format=RESPONSE_FORMAT,
            max_retries=0,
            num_retries=0,
            timeout=60,
        )
    return str(answer.choices[0].message.content)


async def ask_all(job: Job) -> list[str]:
    """Ask all rows, at most `job.concurrency` at once."""
    semaphore = asyncio.Semaphore(job.concurrency)
    return await asyncio.gather(*(ask(job, semaphore, row.prompt) for row in job.rows))


def main() -> None:
    """Run the job."""
    job = read_job()
    with Meter() as meter:
        answers = asyncio.run(ask_all(job))
    pairs = zip((row.prompt for row in job.rows), answers, strict=True)
    meter.report(write_answers(job, pairs))


if __name__ == "__main__":
    main()
