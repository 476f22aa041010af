"""Define fixtures that several of the library's tests use."""

import shutil
from pathlib import Path

import pytest

from persona_pipeline.store.store import Store
from persona_pipeline.synthesis.domain import Domain, load_domain
from tests.support.stored_rows import some_calls

DOMAIN_YAML = """
name: riddle
title: Riddles
description: One row is one riddle.
text: "{{ question }} -> {{ answer }}"
temperature: 0.5
max_tokens: 100
options:
  difficulty: [easy, hard]
fields:
  question: {type: string, minLength: 1}
  answer: {type: string}
  score: {type: integer, minimum: 0, maximum: 9}
  ratio: {type: number}
  is_hard: {type: boolean}
  tags: {type: array, items: {type: string}}
  steps:
    type: array
    items:
      type: object
      properties: {text: {type: string}}
      required: [text]
      additionalProperties: false
examples:
  - given: {persona: A gondolier., difficulty: easy}
    answer:
      question: What has a mouth and never speaks, though it runs all day to the sea?
      answer: A river.
      score: 1
      ratio: 0.5
      is_hard: false
      tags: [water]
      steps: [{text: A river has a mouth.}]
"""
CHECKS = """
def check(answer):
    return "the answer is in the question" if answer["answer"] in answer["question"] else None
"""


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the folder of a database and a snapshot with all tables and views."""
    folder = tmp_path_factory.mktemp("database")
    Store(folder / "pipeline.duckdb", folder / "published.duckdb").migrate()
    return folder


@pytest.fixture
def store(empty_database: Path, tmp_path: Path) -> Store:
    """Copy the database without rows, for one test."""
    for path in empty_database.iterdir():
        shutil.copy(path, tmp_path)
    return Store(tmp_path / "pipeline.duckdb", tmp_path / "published.duckdb", lock_timeout=60)


@pytest.fixture(scope="session")
def domain_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a folder with one domain, `riddle`, which has a field of every type."""
    folder = tmp_path_factory.mktemp("domains") / "riddle"
    folder.mkdir()
    (folder / "domain.yaml").write_text(DOMAIN_YAML)
    (folder / "system.j2").write_text("You write riddles.")
    (folder / "prompt.j2").write_text("Persona: {{ persona }}\nHow hard: {{ difficulty }}")
    (folder / "checks.py").write_text(CHECKS)
    return folder.parent


@pytest.fixture(scope="session")
def riddle(domain_dir: Path) -> Domain:
    """Load the domain of `domain_dir`."""
    return load_domain(domain_dir / "riddle")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Write a file with the answers of `some_calls()`."""
    path = tmp_path / "1-1.jsonl"
    path.write_bytes(b"".join(call.to_line() for call in some_calls()))
    return path
