"""Load domains: folders with everything that turns a persona into records of one kind.

`domain.yaml` declares the fields of a record. `system.j2` and `prompt.j2` ask for one. `packs/`
holds replaceable material, such as the worlds of `npc`. A domain that needs a rule of its own has
`checks.py` with `check(answer) -> str | None`, which returns what is wrong with the answer.
"""

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Any

import jinja2
import jsonschema
import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from persona_pipeline.dedup.rules import LEAST_JACCARD
from persona_pipeline.errors import DomainError, unknown_choice
from persona_pipeline.hashing import stable_id
from persona_pipeline.llm.prompts import (
    Example,
    Prompt,
    PromptFile,
    compile_template,
    load_prompt,
    read_yaml,
)
from persona_pipeline.llm.requests import Message
from persona_pipeline.synthesis.prompting import Prompting

Check = Callable[[Mapping[str, JsonValue]], str | None]
"""Returns what is wrong with an answer; None: nothing."""
_LONGEST_PROBLEM = 300
"""Characters that are told of an error of a domain's own check."""
BUILTIN = Path(__file__).parent / "domains"
"""The folder of the built-in domains."""
RESERVED = {
    "record_id", "persona_id", "variant", "prompting", "text", "call_key", "shard", "run_id",
    "created_at", "persona",
}  # fmt: skip
"""Columns that every record has. A field of a domain cannot have their names."""
NOT_A_DOMAIN = {"accepted", "duplicates", "records", "rejected", "verdicts"}
"""Tables and views of schema `synthetic` that hold all domains. No domain can have their names."""


class RecordDedup(BaseModel):
    """Which records of a domain are duplicates: `dedup` in `domain.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float | None = Field(default=0.9, ge=LEAST_JACCARD, le=1)
    """Jaccard similarity of the words from which on one of two records is removed; None: never."""
    text: str | None = None
    """Jinja template over the fields for the words to compare; None: the record's text."""
    signature: str | None = None
    """Jinja template over the fields. Of records with equal signatures, the first is kept."""

    def version_fields(self) -> tuple[float | None, str | None, str | None]:
        """List what a version of these rules hashes, in an order that stays."""
        return self.threshold, self.text, self.signature


class DomainFile(PromptFile):
    """The content of `domain.yaml`."""

    title: str
    description: str
    """One sentence that says what one row is."""
    text: str
    """Jinja template over the answer's fields for the record as one text."""
    options: dict[str, list[str]] = Field(default_factory=dict)
    """Values by option. A record draws one value of each option, by a hash of its persona."""
    on_request: dict[str, list[str]] = Field(default_factory=dict)
    """More values by option, which records draw only if the settings name them."""
    dedup: RecordDedup = RecordDedup()
    columns: dict[str, str] = Field(default_factory=dict)
    """What a field holds, for the data dictionary. By default, the `description` in its schema.

    A schema is sent to the model and is part of the call key. This text is neither.
    """

    def choices(self, option: str) -> list[str]:
        """List every value that the option may have."""
        return [*self.options[option], *self.on_request.get(option, [])]


@dataclass(frozen=True)
class Domain:
    """A loaded domain: its file, prompt, text template, packs and check."""

    file: DomainFile
    prompt: Prompt
    text: jinja2.Template
    packs: Mapping[str, Mapping[str, Any]]
    check: Check | None

    @property
    def name(self) -> str:
        """Name of the domain, and of its table `synthetic.<name>`."""
        return self.file.name

    def draw_options(self, persona_id: str) -> dict[str, str]:
        """Draw one value of each option by a hash of the persona: the same on every machine."""
        return {
            option: choices[int(stable_id(self.name, option, persona_id)[:8], 16) % len(choices)]
            for option, choices in self.file.options.items()
        }

    def messages(
        self, persona: str, options: Mapping[str, str], prompting: Prompting
    ) -> tuple[Message, ...]:
        """Render the chat that asks for one record."""
        return self.prompt.messages(self._variables(persona, options), self._shown[prompting])

    def render_text(self, answer: Mapping[str, JsonValue]) -> str:
        """Render the record as one text."""
        return self.text.render(answer).strip()

    def render_compared(self, answer: Mapping[str, JsonValue]) -> tuple[str, str | None]:
        """Render what is compared with other records: the words, and the signature or None."""
        rules = self.file.dedup
        words = compile_template(rules.text) if rules.text else self.text
        signature = compile_template(rules.signature).render(answer) if rules.signature else None
        return words.render(answer), signature

    def narrowed(self, choices: Mapping[str, list[str]]) -> "Domain":
        """Return the domain with only these values by option; a value may be the path of a pack.

        Raises:
            DomainError: an option or a value is unknown, or no value is left.
        """
        packs, options = dict(self.packs), dict(self.file.options)
        for option, values in choices.items():
            if option not in options:
                raise DomainError(unknown_choice(f"option of {self.name}", option, options))
            if not values:
                msg = f"no value is left for {option} of {self.name}; known: {options[option]}"
                raise DomainError(msg)
            for value in values:
                if value.endswith((".yaml", ".yml")):
                    packs[value] = _read_pack(Path(value))
                elif value not in self.file.choices(option):
                    known = self.file.choices(option)
                    raise DomainError(unknown_choice(f"{option} of {self.name}", value, known))
            options[option] = list(values)
        return replace(self, file=self.file.model_copy(update={"options": options}), packs=packs)

    def _variables(self, persona: str | None, options: Mapping[str, str]) -> dict[str, Any]:
        arguments = {option: self.packs.get(value, value) for option, value in options.items()}
        return {"persona": persona, **arguments}

    @cached_property
    def _shown(self) -> dict[Prompting, list[Example]]:
        """The examples that requests show. They are made once: see `Prompt.messages`."""
        return {prompting: self._examples(prompting) for prompting in Prompting}

    def _examples(self, prompting: Prompting) -> list[Example]:
        if prompting is Prompting.ZERO_SHOT:
            return []
        shown = []
        for example in self.file.examples:
            options = {key: value for key, value in example.given.items() if key != "persona"}
            persona = example.given.get("persona")
            hidden = prompting is Prompting.FEW_SHOT
            arguments = self._variables(None if hidden else persona, options)
            shown.append(example.model_copy(update={"given": arguments}))
        return shown


def load_domain(folder: Path) -> Domain:
    """Load the domain in the folder, and check its examples.

    Raises:
        DomainError: a file is missing or wrong; the message names it.
    """
    path = folder / "domain.yaml"
    if not path.is_file():
        msg = f"{path} is missing: a domain folder holds domain.yaml, system.j2 and prompt.j2"
        raise DomainError(msg)
    file = read_yaml(path, DomainFile)
    packs = {pack.stem: _read_pack(pack) for pack in sorted(folder.glob("packs/*.yaml"))}
    try:
        text = compile_template(file.text)
    except jinja2.TemplateSyntaxError as error:
        msg = f"{path}: text: {error.message}"
        raise DomainError(msg) from error
    domain = Domain(file, load_prompt(folder, file), text, packs, _load_check(folder))
    _validate(domain, path)
    return domain


def load_domains(folders: Iterable[Path] = ()) -> dict[str, Domain]:
    """Load the built-in domains and those in `folders`, sorted by name.

    Each folder holds one folder per domain. A domain with the name of a built-in one replaces it.

    Raises:
        DomainError: a folder does not exist, or a domain is wrong.
    """
    loaded: dict[str, Domain] = {}
    for parent in (BUILTIN, *folders):
        if not parent.is_dir():
            msg = f"{parent} is not a folder: domain_dirs names folders that hold domain folders"
            raise DomainError(msg)
        for folder in sorted(parent.iterdir()):
            if (folder / "domain.yaml").is_file():
                domain = load_domain(folder)
                loaded[domain.name] = domain
    return dict(sorted(loaded.items()))


def _read_pack(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        msg = f"pack {path} cannot be read: {error}"
        raise DomainError(msg) from error
    if not isinstance(content, dict):
        msg = f"pack {path} must be a YAML mapping"
        raise DomainError(msg)
    return content


def _load_check(folder: Path) -> Check | None:
    path = folder / "checks.py"
    if not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location(f"persona_domain_{folder.name}", path)
    if spec is None or spec.loader is None:
        msg = f"{path} cannot be imported"
        raise DomainError(msg)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return _guarded(module.check)


def _guarded(check: Check) -> Check:
    """Return the check, to which a record is wrong if the check itself fails at it."""

    @wraps(check)
    def guarded(answer: Mapping[str, JsonValue]) -> str | None:
        try:
            return check(answer)
        except Exception as error:  # noqa: BLE001 - of a user's own program
            return f"the check raised {type(error).__name__}: {error}"[:_LONGEST_PROBLEM]

    return guarded


def _validate(domain: Domain, path: Path) -> None:
    if domain.name in NOT_A_DOMAIN:
        msg = f"{path}: a domain cannot be named {domain.name!r}, synthetic.{domain.name} is ours"
        raise DomainError(msg)
    empty = [option for option, choices in domain.file.options.items() if not choices]
    if empty:
        msg = f"{path}: option {empty[0]!r} has no values to draw from"
        raise DomainError(msg)
    unknown = domain.file.columns.keys() - domain.file.fields.keys()
    if unknown:
        msg = f"{path}: columns describes {', '.join(sorted(unknown))}, which is no field"
        raise DomainError(msg)
    taken = RESERVED & set(domain.file.fields)
    if taken:
        msg = f"{path}: fields may not be named {', '.join(sorted(taken))}: every record has these"
        raise DomainError(msg)
    _validate_schemas(domain, path)
    for number, example in enumerate(domain.file.examples, start=1):
        _validate_example(domain, path, number, example)
    options = domain.draw_options("validation")
    for prompting in Prompting:
        domain.messages("A person.", options, prompting)


def _validate_schemas(domain: Domain, path: Path) -> None:
    for name, schema in domain.file.fields.items():
        try:
            jsonschema.validators.validator_for(schema).check_schema(schema)
        except jsonschema.SchemaError as error:
            place = ".".join(map(str, error.absolute_path))
            msg = f"{path}: field {name!r} is no JSON Schema: {place or 'it'}: {error.message}"
            raise DomainError(msg) from error


def _validate_example(domain: Domain, path: Path, number: int, example: Example) -> None:
    try:
        jsonschema.validate(example.answer, domain.prompt.schema)
    except jsonschema.ValidationError as error:
        msg = f"{path}: the answer of example {number}: {error.message}"
        raise DomainError(msg) from error
    missing = ({"persona", *domain.file.options}) - set(example.given)
    if missing:
        msg = f"{path}: example {number} lacks given.{', given.'.join(sorted(missing))}"
        raise DomainError(msg)
    for what, render in (("text", domain.render_text), ("dedup", domain.render_compared)):
        try:
            render(example.answer)
        except jinja2.TemplateError as error:
            msg = f"{path}: {what}: {error}"
            raise DomainError(msg) from error
    problem = domain.check(example.answer) if domain.check else None
    if problem:
        msg = f"{path}: example {number} fails the domain's own check: {problem}"
        raise DomainError(msg)
