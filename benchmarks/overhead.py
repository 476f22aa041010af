"""What the platform itself costs: loading the definitions, an empty run, and answers of the UI.

    uv run python benchmarks/overhead.py                 # 2,000 shards
    uv run python benchmarks/overhead.py --shards 200

Loading is measured beside `import dagster` alone. The empty run is a second `persona-pipeline run`
on a fake model: it buys nothing. The answers are those to what the UI asks for its graph and for
the partitions of an asset, from a webserver whose instance has so many shards, all materialized
once for two assets. All in processes of their own; the least of the repeats counts.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dagster as dg  # noqa: TID251 - it measures it
from calls import tell

ROOT = Path(__file__).parent.parent
PORT = 8431
NOTHING = 100
"""Bytes of an answer without assets: the code location is not loaded yet."""
JSON = {"Content-Type": "application/json"}
GRAPH = """{ assetNodes { assetKey { path } groupName kinds dependencyKeys { path }
  description isPartitioned hasAssetChecks } }"""
PARTITIONS = """{ assetNodeOrError(assetKey: {path: ["personas", "hub"]}) { ... on AssetNode {
  partitionKeysByDimension { partitionKeys } assetPartitionStatuses { __typename
  ... on DefaultPartitionStatuses { materializedPartitions failedPartitions } }
  assetMaterializations(limit: 100) { timestamp partition metadataEntries { label } } } } }"""
ASSETS = ("corpus/documents", "personas/hub")


def environment(data: Path) -> Mapping[str, str]:
    """A fake model, and a data directory of its own."""
    chosen = {"DATA_DIR": str(data), "MODEL": "fake/demo", "EMBEDDING_MODEL": "fake/embedder"}
    return os.environ | {f"PERSONA_PIPELINE_{name}": value for name, value in chosen.items()}


def cost(command: list[str], env: Mapping[str, str], repeats: int) -> tuple[float, float]:
    """CPU-seconds and wall seconds of the command."""
    costs = []
    for _ in range(repeats):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, cwd=ROOT, env=dict(env), check=True, capture_output=True)  # noqa: S603
        after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        costs.append((cpu, wall))
    return min(costs)


def loading(folder: Path, repeats: int) -> Iterator[str]:
    """The code location, beside Dagster alone."""
    env = environment(folder / "data")
    for name, module in (("import dagster", "dagster"), ("load definitions", "assets.definitions")):
        cpu, wall = cost([sys.executable, "-c", f"import {module}"], env, repeats)
        yield f"| {name} | {cpu:.2f} | {wall:.2f} |"


def empty_run(folder: Path, repeats: int) -> Iterator[str]:
    """A run that finds everything bought."""
    env = environment(folder / "data")
    command = [sys.executable, "-m", "persona_pipeline", "run"]
    cost(command, env, 1)
    cpu, wall = cost(command, env, repeats)
    yield f"| run that buys nothing, 1 shard | {cpu:.2f} | {wall:.2f} |"


def answers(folder: Path, shards: int, repeats: int) -> Iterator[str]:
    """What the webserver answers, after one answer that warms it up."""
    home = folder / "home"
    home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    env = dict(environment(home / "data")) | {"DAGSTER_HOME": str(home)}
    os.chdir(home)  # the paths in dagster.yaml are relative
    with dg.DagsterInstance.from_config(str(home)) as instance:
        fill(instance, [f"pages-{number:05}" for number in range(shards)])
    with webserver(home, env) as url:
        for name, query in (("graph", GRAPH), ("partitions of personas/hub", PARTITIONS)):
            ask(url, query)
            seconds, size = min(ask(url, query) for _ in range(repeats))
            yield f"| GraphQL: {name}, {shards:,} shards, {size:,} bytes | | {seconds:.3f} |"


def fill(instance: dg.DagsterInstance, shards: list[str]) -> None:
    """Partitions, and a materialization of each for two assets."""
    instance.add_dynamic_partitions("shards", shards)
    for asset in ASSETS:
        for number, shard in enumerate(shards):
            if number % 500 == 0:
                tell(f"{asset}: {number:,} of {len(shards):,} shards")
            key, tags = dg.AssetKey(asset.split("/")), {"dagster/data_version": str(number)}
            event = dg.AssetMaterialization(key, partition=shard, metadata={"rows": 3}, tags=tags)
            instance.report_runless_asset_event(event)


@contextmanager
def webserver(home: Path, env: Mapping[str, str]) -> Iterator[str]:
    """A webserver on this checkout's code and that instance."""
    program = Path(sys.executable).with_name("dagster-webserver")
    command = [program, "-p", str(PORT), "-m", "assets.definitions", "-d", str(ROOT)]
    with (home / "webserver.log").open("w") as log:
        server = subprocess.Popen(  # noqa: S603
            command, cwd=home, env={**env, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log
        )
    try:
        for _ in range(240):
            try:
                if ask(f"http://127.0.0.1:{PORT}", GRAPH)[1] > NOTHING:
                    break
            except OSError:
                tell("waiting for the webserver")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{PORT}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def ask(url: str, query: str) -> tuple[float, int]:
    """Seconds until the whole answer was there, and its bytes."""
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, JSON)  # noqa: S310 - our own
    start = time.perf_counter()
    with urllib.request.urlopen(request, timeout=120) as response:  # noqa: S310
        text = response.read()
    seconds, answer = time.perf_counter() - start, json.loads(text)
    if "errors" in answer:
        raise RuntimeError(str(answer["errors"])[:500])
    return seconds, len(text)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=2000, help="in the instance of the webserver")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print("| what | CPU-s | wall s |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        for lines in (
            loading(folder, options.repeats),
            empty_run(folder, options.repeats),
            answers(folder, options.shards, options.repeats),
        ):
            for line in lines:
                print(line, flush=True)
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
