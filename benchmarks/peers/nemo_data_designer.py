# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = ["data-designer==0.9.6"]
# ///
"""NeMo Data Designer: seed rows and one structured column, resumed where it can be.

The provider's structured output is asked for through `extra_body`; the library checks the answer.
"""

import json
import os
import sys
from pathlib import Path

os.environ["NEMO_TELEMETRY_ENABLED"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["DATA_DESIGNER_HOME"] = str(Path(sys.prefix) / "data-designer")

import data_designer.config as dd
from adapter import (
    API_KEY,
    MAX_TOKENS,
    MODEL,
    RESPONSE_FORMAT,
    SCHEMA,
    SYSTEM_PROMPT,
    TEMPERATURE,
    Job,
    Meter,
    read_job,
    write_answers,
)
from data_designer.interface import DataDesigner

PROVIDER = "benchmark"
DATASET = "personas"


def write_seed(job: Job) -> Path:
    """Write the rows as the file that the library reads its seed from."""
    path = job.work / "seed.jsonl"
    path.write_text("".join(json.dumps({"prompt": row.prompt}) + "\n" for row in job.rows))
    return path


def model(job: Job, alias: str, extra_body: dict[str, object] | None) -> dd.ModelConfig:
    """Return the one model, with or without a response format."""
    parameters = dd.ChatCompletionInferenceParams(
        temperature=TEMPERATURE,
        max_tokens=MAX_TOKENS,
        max_parallel_requests=job.concurrency,
        extra_body=extra_body,
    )
    return dd.ModelConfig(
        alias=alias,
        model=MODEL,
        provider=PROVIDER,
        inference_parameters=parameters,
        skip_health_check=True,
    )


def build_config(job: Job) -> dd.DataDesignerConfigBuilder:
    """Build the seed, the first column and, if requested, the second."""
    models = [model(job, "structured", {"response_format": RESPONSE_FORMAT})]
    if job.second_prompt:
        models.append(model(job, "text", None))
    builder = dd.DataDesignerConfigBuilder(model_configs=models)
    builder.with_seed_dataset(dd.LocalFileSeedSource(path=str(write_seed(job))))
    first = dd.LLMStructuredColumnConfig(
        name="persona",
        prompt="{{ prompt }}",
        system_prompt=SYSTEM_PROMPT,
        model_alias="structured",
        output_format=SCHEMA,
    )
    builder.add_column(first)
    if job.second_prompt:
        prompt = job.second_prompt.replace("{persona}", "{{ persona.persona }}")
        builder.add_column(dd.LLMTextColumnConfig(name="task", prompt=prompt, model_alias="text"))
    return builder


def run(job: Job) -> list[tuple[str, str | None]]:
    """Create the dataset and read it back."""
    provider = dd.ModelProvider(name=PROVIDER, endpoint=job.url, api_key=API_KEY)
    designer = DataDesigner(artifact_path=job.work / "artifacts", model_providers=[provider])
    designer.set_run_config(dd.RunConfig(disable_early_shutdown=True, otel_metrics_port=None))
    result = designer.create(
        build_config(job),
        num_records=len(job.rows),
        dataset_name=DATASET,
        resume=dd.ResumeMode.IF_POSSIBLE,
    )
    table = result.load_dataset()
    answers = table["task"] if job.second_prompt else map(json.dumps, table["persona"])
    return list(zip(table["prompt"], answers, strict=True))


def main() -> None:
    """Run the job."""
    job = read_job()
    with Meter() as meter:
        pairs = run(job)
    meter.report(write_answers(job, pairs))


if __name__ == "__main__":
    main()
