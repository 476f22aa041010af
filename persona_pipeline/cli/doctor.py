"""Check the settings, the data and the models, and say how to mend what does not work."""

import asyncio
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from persona_pipeline.artifacts.packages import ARTIFACTS, cache_dir, is_cached, verify
from persona_pipeline.cli.options import data_dir_option, model_options, project_from
from persona_pipeline.cli.schema_gaps import describe_gaps
from persona_pipeline.cli.terminal import open_console
from persona_pipeline.corpus.addresses import redact
from persona_pipeline.corpus.sources import list_source
from persona_pipeline.errors import PipelineError, SourceError
from persona_pipeline.llm.answers import check_reply
from persona_pipeline.llm.client import ChatClient
from persona_pipeline.llm.clients.embedding_client import embedding_request
from persona_pipeline.llm.errors import CallError
from persona_pipeline.llm.prompts import object_schema
from persona_pipeline.llm.requests import ChatRequest, Sampling, runs_here
from persona_pipeline.models import (
    open_chat_client,
    open_embedder,
    open_embedding_client,
    open_gateway,
    with_options,
)
from persona_pipeline.project import Project
from persona_pipeline.settings import PREFIX, Settings, config_file
from persona_pipeline.store.migrations import columns_of, needs_upgrade
from persona_pipeline.store.store import Store

DISK_NEEDED = 3_000_000_000
"""Bytes of free disk space: the model of 1.1 GB, its parts while they are joined, and the data."""
QUESTION = "Name one person who reads weather reports for work, in one sentence."


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    name: str
    works: bool
    detail: str


def run_checks(console: Console, project: Project) -> bool:
    """Print the settings and every finding; return whether all works."""
    print_settings(console, project.settings)
    healthy = True
    for check in (
        _check_disk,
        check_store,
        check_watch,
        _check_artifacts,
        check_domains,
        _check_chat,
        _check_embedder,
    ):
        for finding in _guarded(check, project):
            mark = "[green]works[/]  " if finding.works else "[red]mend[/]   "
            console.print(f"{mark} {finding.name}: {escape(finding.detail)}", highlight=False)
            healthy &= finding.works
    return healthy


def print_settings(console: Console, settings: Settings) -> None:
    """Print each setting and whether it was set, without keys, passwords and signatures."""
    there = "read" if config_file().is_file() else "absent"
    console.print(f"[bold]Settings[/] ({PREFIX}*, .env, {config_file()} {there})")
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        chosen = "[bold]set[/]    " if name in settings.model_fields_set else "default"
        console.print(f"  {chosen} {name} = {escape(_shown(name, value))}", highlight=False)


def _shown(name: str, value: Any) -> str:  # noqa: ANN401 - any setting
    """Return what may be shown of a setting. Of parameters, only the names may."""
    if name == "api_key" and value:
        return "(hidden)"
    if name == "request_parameters":
        listed = [f"{model}: {', '.join(parameters)}" for model, parameters in value.items()]
        return "; ".join(listed) or "(none)"
    return redact(_plain(value))


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "(none)"
    return "(none)" if value is None else str(value)


def _guarded(check: Callable[[Project], Iterator[Finding]], project: Project) -> Iterator[Finding]:
    try:
        yield from check(project)
    except PipelineError as error:
        yield Finding(
            check.__name__.removeprefix("check").strip("_"), works=False, detail=str(error)
        )


def _check_disk(project: Project) -> Iterator[Finding]:
    for name, folder in (("data_dir", project.settings.data_dir), ("cache", cache_dir())):
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free
        detail = f"{folder.absolute()}, {free / 1e9:.1f} GB free"
        if free < DISK_NEEDED:
            detail += (
                f"; {DISK_NEEDED / 1e9:.0f} GB are needed: free some, or choose another folder"
            )
        yield Finding(name, free >= DISK_NEEDED, detail)


def check_store(project: Project) -> Iterator[Finding]:
    """Check that the database opens, and count its personas. It changes nothing.

    Raises:
        StoreError: the database does not open, or a newer program wrote it.
    """
    settings = project.settings
    store = Store(settings.database, settings.snapshot, lock_timeout=2)
    if not settings.database.is_file():
        store.check_snapshot()
        yield Finding("store", works=True, detail=f"{settings.database} will be made by a run")
        return
    with store.connect(read_only=True) as connection:
        is_older = needs_upgrade(connection, settings.database)
        if not columns_of(connection, "personas.hub"):
            detail = f"{settings.database} opens and has no tables yet: a run makes them"
            yield Finding("store", works=True, detail=detail)
            return
        [(count,)] = connection.sql("select count(*) from personas.hub").fetchall()
    detail = f"{settings.database} opens; {count:,} personas in the hub"
    if is_older:
        detail += "; of an older version: the next run brings it up to date"
    yield Finding("store", works=True, detail=detail)


def check_watch(project: Project) -> Iterator[Finding]:
    """Check that each watched place is there, and count its files."""
    for place in project.settings.watch:
        shown = redact(place)
        try:
            yield Finding("watch", works=True, detail=f"{shown}: {len(list_source(place))} files")
        except SourceError as error:
            yield Finding("watch", works=False, detail=str(error))


def _check_artifacts(project: Project) -> Iterator[Finding]:
    del project
    for name, artifact in ARTIFACTS.items():
        if not is_cached(name):
            size = f"{artifact.size / 1e6:.0f} MB"
            yield Finding(name, works=True, detail=f"not fetched yet ({size}, when it is needed)")
        elif verify(name):
            yield Finding(name, works=True, detail=f"{artifact.title}, {artifact.license}")
        else:
            path = cache_dir() / artifact.filename
            yield Finding(name, works=False, detail=f"damaged: delete {path} and run again")


def check_domains(project: Project) -> Iterator[Finding]:
    """List the domains, and what of their schemas the model does not hold."""
    yield Finding("domains", works=True, detail=", ".join(project.domains))
    for domain in project.domains.values():
        if gaps := describe_gaps(project, domain):
            yield Finding("schema", works=True, detail=gaps)


def _check_chat(project: Project) -> Iterator[Finding]:
    settings = project.settings
    if settings.model.startswith("embedded/") and not _is_there(settings.model):
        yield Finding("model", works=True, detail=f"{settings.model}: a run will fetch it first")
        return
    question = ChatRequest(
        model=settings.model,
        messages=({"role": "user", "content": QUESTION},),
        schema=object_schema({"answer": {"type": "string"}}),
        sampling=Sampling(max_tokens=100),
    )
    client = open_chat_client(settings, settings.model)
    yield _asked("model", client, with_options(settings, question))


def _asked(name: str, client: ChatClient, request: ChatRequest) -> Finding:
    """Ask the model once. The journal is not read: an old answer says nothing of today's key."""
    started = time.monotonic()

    async def ask() -> None:
        try:
            check_reply(request, await client.complete(request))
        finally:
            await client.close()

    try:
        asyncio.run(ask())
    except CallError as error:
        detail = f"{request.model} did not answer ({error.kind}): {error}"
        hint = "; check the model's name, --api-base and the API key"
        return Finding(name, works=False, detail=detail + hint)
    seconds = time.monotonic() - started
    return Finding(name, works=True, detail=f"{request.model} answered in {seconds:.1f} s")


def _is_there(model: str) -> bool:
    rest = model.removeprefix("embedded/")
    return is_cached(rest) if rest in ARTIFACTS else True  # opening any other says what is wrong


def _check_embedder(project: Project) -> Iterator[Finding]:
    settings = project.settings
    name = settings.embedding_model
    if not settings.needs_vectors:
        yield Finding("embedding model", works=True, detail=f"{name}: nothing needs vectors")
        return
    if not runs_here(name):
        request = embedding_request(name, QUESTION)
        yield _asked("embedding model", open_embedding_client(settings), request)
        return
    with open_gateway(settings, project.database) as gateway:
        vectors = open_embedder(settings, gateway, "doctor").embed([QUESTION])
    yield Finding("embedding model", works=True, detail=f"{name}: {vectors.shape[1]} dimensions")


@click.command()
@model_options
@data_dir_option
def doctor(**arguments: object) -> None:
    """Say what is set, what works, what is missing and how to mend it."""
    healthy = run_checks(open_console(), project_from(arguments))
    sys.exit(0 if healthy else 1)
