# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = [
#   "datatrove[io]==0.10.1",
#   "httpx==0.28.1",
#   "aiosqlite==0.22.1",
#   "aiofiles==25.1.0",
#   "xxhash==4.1.0",
# ]
# ///
"""datatrove's inference runner on an endpoint; checkpoints and request cache in the work folder.

Its `inference` extra also installs vLLM and SGLang (8 GB), which an endpoint does not need. For an
address on this machine it uses a small client of its own: no retry of a 429 or 500, which end the
task, as they would with any server that it had started itself.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

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
from datatrove.data import Document
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.inference.types import GenerateFunction
from datatrove.pipeline.writers import JsonlWriter

RECORDS_PER_CHUNK = 500


async def roll_out(
    document: Document, generate: GenerateFunction, *, second_prompt: str | None
) -> str:
    """Make one call for a document, or two."""
    result = await generate(
        {"messages": messages(document.text), "response_format": RESPONSE_FORMAT}
    )
    if not second_prompt:
        return result.text
    prompt = second_prompt.replace("{persona}", json.loads(result.text)["persona"])
    return (await generate({"messages": [{"role": "user", "content": prompt}]})).text


def build_executor(job: Job) -> LocalPipelineExecutor:
    """Build one task in this process.

    Finished tasks are not skipped, so that a rerun checks again.
    """
    config = InferenceConfig(
        server_type="endpoint",
        endpoint_url=job.url.removesuffix("/v1"),
        api_key=API_KEY,
        model_name_or_path=MODEL,
        default_generation_params={"max_tokens": MAX_TOKENS, "temperature": TEMPERATURE},
        max_concurrent_generations=job.concurrency,
    )
    runner = InferenceRunner(
        rollout_fn=roll_out,
        config=config,
        shared_context={"second_prompt": job.second_prompt},
        output_writer=JsonlWriter(
            str(job.work / "output"), "${rank}_chunk_${chunk_index}.jsonl", compression=None
        ),
        checkpoints_local_dir=str(job.work / "checkpoints"),
        records_per_chunk=RECORDS_PER_CHUNK,
    )
    documents = [Document(text=row.prompt, id=row.id) for row in job.rows]
    return LocalPipelineExecutor(
        [documents, runner], logging_dir=str(job.work / "logs"), skip_completed=False
    )


def read_output(job: Job) -> Iterator[tuple[str, str | None]]:
    """Yield all lines of the output folder, whole or truncated."""
    for path in sorted((job.work / "output").glob("*.jsonl")):
        for line in path.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                record: dict[str, Any] = json.loads(line)
                yield record["text"], record["metadata"]["rollout_results"][0]


def main() -> None:
    """Run the job. What is on disk counts even if the task failed."""
    job = read_job()
    try:
        with Meter() as meter:
            build_executor(job).run()
    finally:
        rows_done = write_answers(job, read_output(job))
    meter.report(rows_done)


if __name__ == "__main__":
    main()
