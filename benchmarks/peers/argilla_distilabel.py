# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = [
#   "distilabel[openai]==1.5.3",
#   "openai==3.54.0",
#   "datasets==5.2.0",
#   "requests==2.34.2",
# ]
# ///
"""distilabel: rows, one `TextGeneration` per step, the cache in the work folder.

A step works on one batch at a time, so the batch size is the concurrency. The provider's structured
output is asked for through `extra_body`, which costs less than distilabel's own way (instructor).
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

from adapter import (
    API_KEY,
    MAX_TOKENS,
    MODEL,
    RESPONSE_FORMAT,
    SYSTEM_PROMPT,
    TEMPERATURE,
    Job,
    Meter,
    read_job,
    write_answers,
)
from distilabel.models.llms import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration


def llm(job: Job, extra_body: dict[str, object] | None) -> OpenAILLM:
    """Return the one model, with or without a response format."""
    generation = {"max_new_tokens": MAX_TOKENS, "temperature": TEMPERATURE}
    if extra_body:
        generation["extra_body"] = extra_body
    return OpenAILLM(model=MODEL, base_url=job.url, api_key=API_KEY, generation_kwargs=generation)


def build_pipeline(job: Job) -> Pipeline:
    """Build the rows, the first step and, if requested, the second."""
    rows = [{"prompt": row.prompt, "system_prompt": SYSTEM_PROMPT} for row in job.rows]
    with Pipeline(name="personas", cache_dir=job.work / "cache") as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=job.concurrency)
        write_persona = TextGeneration(
            name="write_persona",
            llm=llm(job, {"response_format": RESPONSE_FORMAT}),
            columns=["prompt"],
            template="{{ prompt }}",
            input_batch_size=job.concurrency,
            output_mappings={"generation": "persona"},
        )
        load >> write_persona
        if job.second_prompt:
            write_task = TextGeneration(
                name="write_task",
                llm=llm(job, None),
                columns=["persona"],
                template=job.second_prompt.replace("{persona}", "{{ persona }}"),
                input_batch_size=job.concurrency,
                output_mappings={"generation": "task"},
            )
            write_persona >> write_task
    return pipeline


def run(job: Job) -> list[tuple[str, str | None]]:
    """Run the pipeline with its cache on and read the dataset."""
    table = build_pipeline(job).run(use_cache=True)["default"]["train"]
    answers = table["task" if job.second_prompt else "persona"]
    return list(zip(table["prompt"], answers, strict=True))


def main() -> None:
    """Run the job."""
    job = read_job()
    with Meter(has_children=True) as meter:
        pairs = run(job)
    meter.report(write_answers(job, pairs))


if __name__ == "__main__":
    main()
