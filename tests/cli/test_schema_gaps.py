"""What doctor, estimate and preview say of a schema that the model does not hold."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from persona_pipeline.cli import doctor
from persona_pipeline.cli.estimate import print_estimate
from persona_pipeline.cli.preview import print_preview
from persona_pipeline.cli.schema_gaps import describe_gaps
from persona_pipeline.project import Project, open_project
from persona_pipeline.synthesis.domain import load_domains
from tests.support.picky_server import Body, completion, serve_picky

OFFER = """\
name: offer
title: Offers
description: One row is an offer.
text: "{{ words }}"
fields:
  words: {type: string, minLength: 5}
  price: {type: number, minimum: 0, multipleOf: 0.5}
examples:
  - given: {persona: A cooper.}
    answer: {words: A barrel for a song, price: 3.5}
"""
GAPS = (
    "offer: the embedded model does not hold these parts of its schema: price: multipleOf; price: "
)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "mine" / "offer"
    folder.mkdir(parents=True)
    files = {"domain.yaml": OFFER, "system.j2": "You sell.", "prompt.j2": "{{ persona }}"}
    for name, text in files.items():
        (folder / name).write_text(text)
    (tmp_path / "a.jsonl").write_text('{"text": "%s"}\n' % ("A page about barrels. " * 20))
    return folder.parent


def open_with(mine: Path, **settings: object) -> Project:
    places = {"domain_dirs": [mine], "data_dir": mine.parent / "data"}
    return open_project(**places, source=mine.parent / "a.jsonl", **settings)


def test_the_embedded_model_does_not_hold_bounds_of_numbers(mine: Path) -> None:
    project = open_with(mine, model="embedded/qwen2.5-coder-0.5b", domains=["offer", "math"])
    assert describe_gaps(project, project.domains["offer"]) == (
        f"{GAPS}minimum of a number. Answers that break them are rejected."
    )
    assert describe_gaps(project, project.domains["math"]) is None
    [_, gaps] = doctor.check_domains(project)
    assert (gaps.name, gaps.works) == ("schema", True)
    assert gaps.detail.startswith(GAPS)


def test_the_built_in_domains_have_no_gap_on_any_model(mine: Path) -> None:
    for settings in ({}, {"model": "openai/m", "api_base": "http://localhost:1/v1"}):
        project = open_with(mine, domains=list(load_domains()), **settings)
        assert len(list(doctor.check_domains(project))) == 1


def test_of_a_server_it_is_said_if_it_may_be_llama_cpp_and_gets_the_schema(mine: Path) -> None:
    served: dict[str, object] = {"model": "openai/m", "domains": ["offer"]}
    own = open_with(mine, **served, api_base="http://localhost:1/v1")
    assert "llama.cpp, if that is the server, does not" in str(
        describe_gaps(own, own.domains["offer"])
    )
    for settings in ({}, {"api_base": "http://localhost:1/v1", "schema_mode": "prompt"}):
        other = open_with(mine, **served, **settings)
        assert describe_gaps(other, other.domains["offer"]) is None


def test_estimate_and_preview_name_them_before_anything_is_paid(mine: Path) -> None:
    said = "llama.cpp, if that is the server, does not hold these parts of its schema: price: mul"

    def sell(_: Body) -> tuple[int, Body]:
        return 200, completion('{"words": "A barrel for a song", "price": 3.5}')

    with serve_picky(sell) as server:
        project = open_with(mine, model="openai/m", api_base=server.url, domains=["offer"])
        shown = StringIO()
        print_estimate(Console(file=shown, width=200), project)
        assert said in shown.getvalue()
        assert not server.bodies
        shown = StringIO()
        print_preview(Console(file=shown, width=200), project, "offer", "A cooper.", ())
    assert said in shown.getvalue().partition("answer ")[0]
