"""Show one prompt and its answer without Dagster, before a run is paid for."""

import asyncio

import click
from rich.console import Console
from rich.markup import escape

from persona_pipeline.cli.options import model_options, project_from
from persona_pipeline.cli.schema_gaps import print_gaps
from persona_pipeline.cli.terminal import open_console
from persona_pipeline.errors import SettingsError, unknown_choice
from persona_pipeline.llm.answers import check_reply, parse_answer
from persona_pipeline.llm.errors import CallError, ModelError
from persona_pipeline.llm.requests import ChatReply, ChatRequest
from persona_pipeline.models import open_chat_client, with_options
from persona_pipeline.project import Project
from persona_pipeline.settings import Settings
from persona_pipeline.synthesis.records import build_request


def print_preview(
    console: Console, project: Project, name: str, persona: str, options: tuple[str, ...]
) -> None:
    """Print the messages, the answer, and the record's text or what is wrong with it.

    Raises:
        SettingsError: there is no such domain or option.
        ModelError: the model gave no answer.
    """
    domains = project.domains
    if name not in domains:
        raise SettingsError(unknown_choice("domain", name, domains))
    chosen = dict(_parse_option(option) for option in options)
    domain = domains[name].narrowed({key: [value] for key, value in chosen.items()})
    plan = project.synthesis_plan(domain)
    request = build_request(domain, persona, domain.draw_options(persona), plan)
    for message in request.messages:
        console.rule(message["role"], align="left")
        console.print(escape(message["content"]), highlight=False)
    print_gaps(console, project, [domain])
    console.rule("answer", align="left")
    asked = with_options(project.settings, request)
    answered = asyncio.run(_ask(project.settings, asked))
    console.print(escape(answered.text), highlight=False)
    reply = check_reply_or_explain(asked, answered)
    console.rule("record", align="left")
    answer = parse_answer(reply.text, request.schema)
    console.print(escape(domain.render_text(answer)), highlight=False)
    problem = domain.check(answer) if domain.check else None
    if problem:
        console.print(f"[red]would be rejected:[/] {escape(problem)}")


def check_reply_or_explain(request: ChatRequest, reply: ChatReply) -> ChatReply:
    """Return the usable reply, checked as a run would.

    Raises:
        ModelError: a run would reject the answer; the message says why.
    """
    try:
        return check_reply(request, reply)
    except CallError as error:
        msg = f"this answer would be rejected as invalid: {error}"
        raise ModelError(msg) from error


async def _ask(settings: Settings, request: ChatRequest) -> ChatReply:
    client = open_chat_client(settings, request.model)
    try:
        return await client.complete(request)
    except CallError as error:
        msg = f"model {request.model} gave no answer ({error.kind}): {error}"
        raise ModelError(msg) from error
    finally:
        await client.close()


def _parse_option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        msg = f"--option {text!r} is not of the form name=value"
        raise SettingsError(msg)
    return name, value


@click.command()
@click.argument("domain")
@click.option("--persona", required=True, help="The persona to write for.")
@click.option("--prompting", help="zero_shot, few_shot or persona_few_shot.")
@click.option("--option", "options", multiple=True, help="name=value, e.g. difficulty=hard.")
@model_options
def preview(domain: str, persona: str, options: tuple[str, ...], **arguments: object) -> None:
    """Print the rendered prompt of DOMAIN and the model's answer."""
    print_preview(open_console(), project_from(arguments), domain, persona, options)
