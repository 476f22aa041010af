"""Load prompts as data: a YAML file with the answer's fields and examples, and two Jinja templates.

A folder holds `<kind>.yaml`, `system.j2` and `prompt.j2`. Each example becomes two chat turns,
whose assistant turn is exactly the target JSON. Small models follow examples where instructions
fail.
"""

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import jinja2
import jinja2.meta
import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from persona_pipeline.errors import DomainError
from persona_pipeline.hashing import canonical_json, stable_id
from persona_pipeline.llm.requests import Message, Sampling

Spec = TypeVar("Spec", bound=BaseModel)

Variables = Mapping[str, Any]
"""The variables of a prompt template."""

_ENVIRONMENT = jinja2.Environment(
    undefined=jinja2.StrictUndefined,
    autoescape=False,  # noqa: S701 - prompts are plain text, not HTML
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=False,
)


_CONTROL_TOKEN = re.compile(r"[<\[](?=\||/?s>|/?INST\]|(?:start|end)_of_turn>)")
"""Matches the start of a chat template's control token (Qwen, Llama, Mistral, Gemma). Servers read
such a token as the end of the turn even inside a message (measured: `<|im_end|>` in a page is one
token)."""


MOST_PREFIXES = 64
"""Prefixes of messages that a prompt keeps: a stage has one for each variant that it asks for."""


@cache
def compile_template(text: str) -> jinja2.Template:
    """Return a Jinja template that fails on a missing variable."""
    return _ENVIRONMENT.from_string(text)


class Example(BaseModel):
    """Hold one worked example: the variables of the question (`given`) and the answer to write."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    given: dict[str, Any]
    answer: dict[str, JsonValue]


class PromptFile(BaseModel):
    """Describe a prompt's YAML file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    fields: dict[str, dict[str, JsonValue]] = Field(min_length=1)
    """JSON Schema of each field of the answer. All fields are required."""
    examples: list[Example] = []
    temperature: float = Field(default=0.7, ge=0, le=2)
    top_p: float = Field(default=0.9, gt=0, le=1)
    max_tokens: int = Field(default=256, gt=0)


@dataclass(frozen=True)
class Prompt:
    """Render the messages of a loaded prompt, and know the schema of its answer."""

    spec: PromptFile
    system: jinja2.Template
    user: jinja2.Template
    version: str
    """12 hex digits of the hash of all its files."""
    texts: tuple[str, str]
    """The text of the system template and of that of the question."""

    @property
    def name(self) -> str:
        """The name in the YAML file."""
        return self.spec.name

    @cached_property
    def schema(self) -> dict[str, JsonValue]:
        """JSON Schema of the answer: an object with every field and no other."""
        return object_schema(self.spec.fields)

    @property
    def sampling(self) -> Sampling:
        """The sampling settings of this prompt."""
        spec = self.spec
        return Sampling(spec.temperature, spec.top_p, spec.max_tokens)

    def messages(self, variables: Variables, examples: list[Example]) -> tuple[Message, ...]:
        """Return the system turn, the turns of the examples, and the question.

        All but the question are rendered once for the requests that share them: most stages have
        one such prefix for all. Never change an example that was used.
        """
        question: Message = {"role": "user", "content": self._render(self.user, variables)}
        return (*self._prefix(variables, examples), question)

    def _prefix(self, variables: Variables, examples: list[Example]) -> tuple[Message, ...]:
        """Return the turns before the question."""
        of_system, of_question = self._names
        names = of_system.union(*(of_question - example.given.keys() for example in examples))
        used = {name: variables[name] for name in sorted(names) if name in variables}
        values = (value if isinstance(value, str) else id(value) for value in used.values())
        key = (*used, *values, *map(id, examples))
        if key not in self._prefixes:
            if len(self._prefixes) >= MOST_PREFIXES:
                self._prefixes.clear()
            turns = tuple(self._render_prefix(variables, examples))
            self._prefixes[key] = turns, (used, examples)  # which keep their identities
        return self._prefixes[key][0]

    @cached_property
    def _names(self) -> tuple[frozenset[str], frozenset[str]]:
        """The variables that the system template and that of the question may use."""
        system, question = self.texts
        return _names_in(system), _names_in(question)

    @cached_property
    def _prefixes(self) -> dict[tuple[object, ...], tuple[tuple[Message, ...], object]]:
        """The prefixes that were rendered, by what they depend on."""
        return {}

    def _render_prefix(self, variables: Variables, examples: list[Example]) -> Iterator[Message]:
        yield {"role": "system", "content": self._render(self.system, variables)}
        for example in examples:
            question = self._render(self.user, {**variables, **example.given})
            yield {"role": "user", "content": question}
            yield {"role": "assistant", "content": canonical_answer(example.answer)}

    def _render(self, template: jinja2.Template, variables: Variables) -> str:
        try:
            return _CONTROL_TOKEN.sub(r"\g<0> ", template.render(variables).strip())
        except jinja2.UndefinedError as error:
            msg = f"prompt {self.name}: {error}; given: {', '.join(sorted(variables))}"
            raise DomainError(msg) from error


def object_schema(fields: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the schema of an object that has exactly these fields."""
    return {
        "type": "object",
        "properties": dict(fields),
        "required": list(fields),
        "additionalProperties": False,
    }


def canonical_answer(answer: Mapping[str, JsonValue]) -> str:
    """Return an example's answer as one line of JSON. Its fields keep their written order."""
    pairs = (f"{canonical_json(key)}: {_spaced(value)}" for key, value in answer.items())
    return "{" + ", ".join(pairs) + "}"


def _spaced(value: JsonValue) -> str:
    if isinstance(value, dict):
        return canonical_answer(value)
    if isinstance(value, list):
        return "[" + ", ".join(_spaced(item) for item in value) + "]"
    return canonical_json(value)


def fence(*texts: str) -> str:
    """Return a delimiter of 8 hex digits that occurs in none of the untrusted texts."""
    candidates = (stable_id("fence", number, *texts)[:8] for number in itertools.count())
    return next(digits for digits in candidates if not any(digits in text for text in texts))


def read_yaml(path: Path, model: type[Spec]) -> Spec:
    """Read the YAML file as `model`.

    Raises:
        DomainError: the file is not valid. The message names the file, the key and what was
            expected.
    """
    try:
        return model.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        msg = f"{path} is not YAML: {error}"
        raise DomainError(msg) from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors()
        )
        msg = f"{path}: {problems}"
        raise DomainError(msg) from error


def read_template(path: Path) -> jinja2.Template:
    """Read the Jinja template in the file.

    Raises:
        DomainError: the file is missing, or has a syntax error. The message names the file and
            line.
    """
    try:
        return compile_template(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = f"{path} is missing: a prompt folder holds its YAML file, system.j2 and prompt.j2"
        raise DomainError(msg) from error
    except jinja2.TemplateSyntaxError as error:
        msg = f"{path}, line {error.lineno}: {error.message}"
        raise DomainError(msg) from error


def folder_version(folder: Path) -> str:
    """Return 12 hex digits over the names and bytes of all prompt files of the folder."""
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".yaml", ".j2", ".py"}:
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def load_prompt(folder: Path, spec: PromptFile) -> Prompt:
    """Return the prompt of a folder whose YAML file was read as `spec`."""
    system, user = folder / "system.j2", folder / "prompt.j2"
    return Prompt(
        spec=spec,
        system=read_template(system),
        user=read_template(user),
        version=folder_version(folder),
        texts=(system.read_text(encoding="utf-8"), user.read_text(encoding="utf-8")),
    )


def _names_in(template: str) -> frozenset[str]:
    """Return the variables that a template may use."""
    return frozenset(jinja2.meta.find_undeclared_variables(_ENVIRONMENT.parse(template)))
