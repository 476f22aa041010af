"""Domains as folders: the six that are built in, one of your own, and what a wrong one is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from persona_pipeline.errors import DomainError
from persona_pipeline.synthesis.domain import BUILTIN, Domain, load_domain, load_domains
from persona_pipeline.synthesis.prompting import Prompting

NAMES = ["instruction", "knowledge", "logical_reasoning", "math", "npc", "tool"]
PERSONA = "A lock keeper on a narrow canal who counts herons for the county."
RIDDLE = """
name: riddle
title: Riddles
description: One row is a riddle about a persona's tools.
text: "{{ question }} ({{ solved }})"
options:
  mood: [merry, grim]
fields:
  question: {type: string, minLength: 5}
  solved: {type: string}
examples:
  - given: {persona: A cooper., mood: merry}
    answer: {question: "Who has hoops but no ears?", solved: A barrel}
"""


def write_riddle(parent: Path, **files: str) -> Path:
    folder = parent / "riddle"
    folder.mkdir(exist_ok=True)
    contents = {
        "domain.yaml": RIDDLE,
        "system.j2": "You write riddles.",
        "prompt.j2": "{{ persona }} A {{ mood }} one.",
    }
    for name, text in {**contents, **files}.items():
        (folder / name).write_text(text)
    return folder


def built_in(name: str) -> Domain:
    return load_domain(BUILTIN / name)


def ask(domain: Domain, prompting: Prompting) -> list[str]:
    options = domain.draw_options("someone")
    return [turn["content"] for turn in domain.messages(PERSONA, options, prompting)]


def trade(persona: str) -> str:
    """What every domain shows of a persona; npc leaves out the rest."""
    return persona.split(" who ", maxsplit=1)[0]


def test_the_six_domains_load_and_their_examples_are_valid() -> None:
    domains = load_domains()
    assert list(domains) == NAMES
    assert all(len(domain.file.examples) >= 2 for domain in domains.values())


@pytest.mark.parametrize("name", NAMES)
def test_every_text_of_an_answer_has_a_length_that_the_model_cannot_exceed(name: str) -> None:
    def unbounded(schema: object, place: str) -> list[str]:
        if isinstance(schema, list):
            return [matches for item in schema for matches in unbounded(item, place)]
        if not isinstance(schema, dict):
            return []
        bounded = {"maxLength", "pattern", "enum"} & set(schema)
        here = [place] if schema.get("type") == "string" and not bounded else []
        return here + [
            matches for key, item in schema.items() for matches in unbounded(item, f"{place}.{key}")
        ]

    assert unbounded(built_in(name).prompt.schema, name) == []


@pytest.mark.parametrize("name", NAMES)
def test_zero_shot_shows_no_example(name: str) -> None:
    assert len(ask(built_in(name), Prompting.ZERO_SHOT)) == 2


@pytest.mark.parametrize("name", NAMES)
def test_few_shot_shows_the_examples_without_their_personas(name: str) -> None:
    domain = built_in(name)
    turns = ask(domain, Prompting.FEW_SHOT)
    assert len(turns) == 2 + 2 * len(domain.file.examples)
    for example in domain.file.examples:
        assert not any(trade(example.given["persona"]) in turn for turn in turns)
    assert trade(PERSONA) in turns[-1]


@pytest.mark.parametrize("name", NAMES)
def test_persona_few_shot_shows_the_examples_with_their_personas(name: str) -> None:
    domain = built_in(name)
    turns = ask(domain, Prompting.PERSONA_FEW_SHOT)
    for number, example in enumerate(domain.file.examples):
        assert trade(example.given["persona"]) in turns[1 + 2 * number]
        assert json.loads(turns[2 + 2 * number]) == example.answer


@pytest.mark.parametrize("name", NAMES)
def test_only_the_last_turn_differs_between_personas(name: str) -> None:
    """So the model reads system prompt and examples once for all personas."""
    domain = built_in(name)
    chats = [
        domain.messages(f"A person {number}.", domain.draw_options(str(number)), mode)
        for number in range(20)
        for mode in [Prompting.PERSONA_FEW_SHOT]
    ]
    assert all(chat[:-1] == chats[0][:-1] for chat in chats)


@pytest.mark.parametrize("name", NAMES)
def test_a_persona_always_draws_the_same_options_and_all_values_are_drawn(name: str) -> None:
    domain = built_in(name)
    draws = [domain.draw_options(f"persona-{number}") for number in range(200)]
    assert draws == [domain.draw_options(f"persona-{number}") for number in range(200)]
    for option, choices in domain.file.options.items():
        assert {draw[option] for draw in draws} == set(choices)


@pytest.mark.parametrize(
    ("name", "option", "own"), [("math", "numbers", "own"), ("logical_reasoning", "pattern", "own")]
)
def test_a_value_on_request_is_drawn_only_when_it_is_asked_for(
    name: str, option: str, own: str
) -> None:
    domain = built_in(name)
    assert own not in domain.file.options[option]
    turns = ask(domain.narrowed({option: [own]}), Prompting.ZERO_SHOT)
    assert "Plan:" not in turns[-1]
    assert "Form:" not in turns[-1]


def test_every_plan_of_math_comes_out_even() -> None:
    domain = built_in("math")
    check = domain.check
    assert check is not None
    for difficulty in domain.file.options["difficulty"]:
        for focus in domain.file.options["focus"]:
            for small in domain.file.options["small"]:
                for large in domain.file.options["large"]:
                    arguments = {
                        "difficulty": difficulty, "focus": focus, "numbers": "given",
                        "small": small, "large": large,
                    }  # fmt: skip
                    question = domain.messages(PERSONA, arguments, Prompting.ZERO_SHOT)[-1][
                        "content"
                    ]
                    (plan,) = [
                        line for line in question.splitlines() if line.startswith("Calculation:")
                    ]
                    assert check({"solution": plan, "answer": plan.split()[-1]}) is None
                    assert "." not in plan


@pytest.mark.parametrize(
    ("solution", "answer", "problem"),
    [
        ("1. Crates: 3 * 4 = 12. 2. Left: 12 - 5 = 7.", "7 crates", None),
        ("1. Pay: 8 * $20 = $160. 2. Off: 160 * 10 / 100 = 16.", "$16", None),
        ("1. Chance: 4 / 16 = 1 / 4.", "1/4", None),
        ("1. Both: (12 + 10) * 3 = 66.", "66 jars", None),
        ("1. All: 2 + 3 x 4 = 14.", "14", None),
        ("1. Total: 1,200 + 300 = 1,500.", "1500 litres", None),
        ("1. Third: 100 / 3 = 33.33.", "33.33 m", None),
        ("1. Crates: 3 * 4 = 13.", "13 crates", "wrong calculation: 3 * 4 = 13"),
        ("1. None: 3 / 0 = 0.", "0", "wrong calculation: 3 / 0 = 0"),
        ("1. Crates: 3 * 4 = 12.", "14 crates", "the solution does not reach"),
    ],
)
def test_math_refuses_wrong_arithmetic_and_answers_from_nowhere(
    solution: str, answer: str, problem: str | None
) -> None:
    check = built_in("math").check
    assert check is not None
    matches = check({"solution": solution, "answer": answer})
    assert (matches is None) if problem is None else (matches is not None and problem in matches)


def test_a_puzzle_with_an_open_blank_is_refused() -> None:
    check = built_in("logical_reasoning").check
    assert check is not None
    answer = {"question": "Which [tool or product] is left?", "reasoning": "None.", "answer": "x"}
    assert check(answer) == "the form's blank [tool or product] is left in the puzzle"
    assert check({**answer, "question": "Which rope is left?"}) is None


def parameter(name: str, description: str, *, required: bool = True) -> dict[str, object]:
    return {"name": name, "type": "string", "description": description, "required": required}


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ([parameter("day", "The day."), parameter("day", "Its hour.")], "occurs twice: day, day"),
        ([parameter("day", "The day.", required=False)], "no parameter is required"),
        ([parameter("day", "The day."), parameter("date", "The  DAY")], "are the same"),
        ([parameter("day", "Finds a free lock.")], "are the same"),
    ],
)
def test_a_tool_that_no_caller_can_use_is_refused(
    parameters: list[dict[str, object]], problem: str
) -> None:
    check = built_in("tool").check
    assert check is not None
    answer = {"name": "find_lock", "description": "Finds a free lock.", "parameters": parameters}
    assert problem in str(check({**answer, "returns": "The lock."}))  # type: ignore[dict-item]


def test_the_text_of_a_tool_is_a_function_definition_in_json() -> None:
    domain = built_in("tool")
    for example in domain.file.examples:
        function = json.loads(domain.render_text(example.answer))["function"]
        assert function["name"] == example.answer["name"]
        assert set(function["parameters"]["required"]) <= set(function["parameters"]["properties"])


def test_the_text_of_a_tool_survives_quotes_and_line_breaks() -> None:
    domain = built_in("tool")
    answer = {**domain.file.examples[0].answer, "description": 'Says "no"\nto </script> & co.'}
    function = json.loads(domain.render_text(answer))["function"]
    assert function["description"].startswith('Says "no"\nto </script> & co. Returns: ')


def test_a_world_of_your_own_replaces_the_built_in_ones(tmp_path: Path) -> None:
    pack = tmp_path / "moor.yaml"
    pack.write_text(
        "{name: The Moor, genre: gothic, summary: Fog sells., places: [the Mire], "
        "factions: [the Peat Board], customs: [whisper]}"
    )
    domain = built_in("npc").narrowed({"world": [str(pack)]})
    question = ask(domain, Prompting.ZERO_SHOT)[-1]
    assert "The Moor (gothic). Fog sells." in question
    assert "the Peat Board" in question


@pytest.mark.parametrize("text", ["- a list", "name: ["])
def test_a_pack_that_is_no_mapping_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "moor.yaml").write_text(text)
    with pytest.raises(DomainError, match=r"pack .*moor\.yaml"):
        built_in("npc").narrowed({"world": [str(tmp_path / "moor.yaml")]})


def test_a_missing_pack_is_named(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match=r"pack .*moor\.yaml cannot be read"):
        built_in("npc").narrowed({"world": [str(tmp_path / "moor.yaml")]})


def test_an_unknown_option_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(DomainError, match="unknown option of math 'dificulty'; did you mean 'diff"):
        built_in("math").narrowed({"dificulty": ["easy"]})


def test_an_unknown_value_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(DomainError, match="unknown difficulty of math 'esay'; did you mean 'easy'"):
        built_in("math").narrowed({"difficulty": ["esay"]})


def test_a_seventh_domain_needs_no_python(tmp_path: Path) -> None:
    write_riddle(tmp_path)
    domains = load_domains([tmp_path])
    assert set(domains) == {*NAMES, "riddle"}
    riddle = domains["riddle"]
    assert riddle.check is None
    assert riddle.render_text({"question": "Who?", "solved": "A barrel"}) == "Who? (A barrel)"
    assert ask(riddle, Prompting.ZERO_SHOT)[0] == "You write riddles."


def test_a_domain_of_your_own_replaces_the_built_in_one_of_its_name(tmp_path: Path) -> None:
    write_riddle(tmp_path, **{"domain.yaml": RIDDLE.replace("name: riddle", "name: math")})
    assert load_domains([tmp_path])["math"].file.title == "Riddles"


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("{type: strin}", "type: 'strin' is not valid"),
        ("{type: string, pattern: '^[A-Z'}", "pattern: .* is not a 'regex'"),
        ("{type: array, minItems: three}", "minItems: 'three' is not of type 'integer'"),
    ],
)
def test_a_field_that_is_no_json_schema_is_named(tmp_path: Path, field: str, problem: str) -> None:
    folder = write_riddle(tmp_path, **{"domain.yaml": RIDDLE.replace("{type: string}", field)})
    with pytest.raises(DomainError, match=rf"domain\.yaml: field 'solved' is no .*: {problem}"):
        load_domain(folder)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("domain.yaml", "name: [", r"domain\.yaml is not YAML"),
        ("domain.yaml", RIDDLE.replace("title: Riddles", ""), r"domain\.yaml: title: Field requ"),
        ("domain.yaml", RIDDLE + "colour: red", r"domain\.yaml: colour: Extra inputs"),
        (
            "domain.yaml",
            RIDDLE + "columns: {colour: Red.}",
            r"domain\.yaml: columns describes colour, which is no field",
        ),
        (
            "domain.yaml",
            RIDDLE.replace("solved", "record_id"),
            r"domain\.yaml: fields may not be named record_id",
        ),
        (
            "domain.yaml",
            RIDDLE.replace('"Who has hoops but no ears?"', "Who"),
            r"domain\.yaml: the answer of example 1: 'Who' is too short",
        ),
        (
            "domain.yaml",
            RIDDLE.replace(", mood: merry", ""),
            r"domain\.yaml: example 1 lacks given\.mood",
        ),
        (
            "domain.yaml",
            RIDDLE.replace("({{ solved }})", "{{ solution }}"),
            r"domain\.yaml: text: 'solution' is undefined",
        ),
        (
            "domain.yaml",
            RIDDLE.replace("({{ solved }})", "{{ solved"),
            r"domain\.yaml: text: ",
        ),
        ("prompt.j2", "{{ temper }}", "prompt riddle: 'temper' is undefined"),
        (
            "checks.py",
            "def check(answer):\n    return 'never good'",
            "example 1 fails the domain's own check: never good",
        ),
    ],
)
def test_a_wrong_domain_is_told_the_file_and_the_key(
    tmp_path: Path, file: str, text: str, message: str
) -> None:
    folder = write_riddle(tmp_path, **{file: text})
    with pytest.raises(DomainError, match=message):
        load_domain(folder)


@pytest.mark.parametrize("file", ["domain.yaml", "system.j2", "prompt.j2"])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    folder = write_riddle(tmp_path)
    (folder / file).unlink()
    with pytest.raises(DomainError, match=f"{file.replace('.', '[.]')} is missing"):
        load_domain(folder)


def test_a_folder_of_domains_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="nowhere is not a folder"):
        load_domains([tmp_path / "nowhere"])


def test_names_written_with_spaces_become_function_and_parameter_names() -> None:
    parameter: dict[str, Any] = {
        "name": "Sheet No",
        "type": "integer",
        "description": "Number of the sheet.",
        "required": True,
    }
    answer: dict[str, Any] = {
        "name": "Find tide-table",
        "description": "Finds a tide table.",
        "parameters": [parameter],
        "returns": "The table.",
    }
    function = json.loads(load_domains()["tool"].render_text(answer))["function"]
    assert function["name"] == "find_tide_table"
    assert list(function["parameters"]["properties"]) == ["sheet_no"]
    assert function["parameters"]["required"] == ["sheet_no"]


def test_a_record_at_which_the_domains_own_check_fails_is_wrong(riddle: Domain) -> None:
    assert riddle.check is not None
    assert riddle.check({"answer": "A river."}) == "the check raised KeyError: 'question'"
