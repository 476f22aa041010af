"""Derive the table of a domain from its `domain.yaml`."""

import json
from collections.abc import Mapping
from typing import Any

import polars as pl
from pydantic import JsonValue

from persona_pipeline.hashing import canonical_json
from persona_pipeline.stage_names import domain_stage
from persona_pipeline.store.dictionary import ROW, Descriptions, record_descriptions
from persona_pipeline.store.store import Store
from persona_pipeline.synthesis.domain import Domain

_TYPES: dict[str, tuple[type[pl.DataType], str]] = {
    "string": (pl.String, "varchar"),
    "integer": (pl.Int64, "bigint"),
    "number": (pl.Float64, "double"),
    "boolean": (pl.Boolean, "boolean"),
}
"""Types in polars and DuckDB, by the type in the JSON schema."""


def table_name(domain: Domain) -> str:
    """Return the name of the domain's table, which is also the name of its stage."""
    return domain_stage(domain.name)


def table_columns(domain: Domain) -> dict[str, str]:
    """Return the DuckDB type of each column of the domain's table.

    Objects and lists of anything but text become JSON text.
    """
    fields = {name: column_type(schema)[1] for name, schema in domain.file.fields.items()}
    first = dict.fromkeys(("shard", "record_id", "persona_id", "variant", "prompting"), "varchar")
    last = {"text": "varchar", "call_key": "varchar", "run_id": "varchar"}
    return {**first, **fields, **last, "created_at": "timestamp"}


def add_domain_table(store: Store, domain: Domain) -> None:
    """Create the domain's table, or add what it lacks.

    Raises:
        StoreError: a column has another type than the domain's file declares.
    """
    store.add_table(table_name(domain), table_columns(domain), table_descriptions(domain))


def table_descriptions(domain: Domain) -> Descriptions:
    """Return the description of a row of the domain's table and of each column."""
    fields = {name: _describe_field(domain, name) for name in domain.file.fields}
    return {ROW: domain.file.description, **record_descriptions(), **fields}


def _describe_field(domain: Domain, name: str) -> str:
    schema = domain.file.fields[name]
    if described := domain.file.columns.get(name) or schema.get("description"):
        return str(described)
    return f"A field of the model's answer, of the schema {canonical_json(schema)}."


def column_type(schema: Mapping[str, JsonValue]) -> tuple[Any, str]:
    """Return the polars type and the DuckDB type of a field with this JSON schema."""
    kind = schema.get("type")
    items = schema.get("items")
    if kind == "array" and isinstance(items, dict) and items.get("type") == "string":
        return pl.List(pl.String), "varchar[]"
    return _TYPES.get(str(kind), (pl.String, "varchar"))


def as_column(value: JsonValue, schema: Mapping[str, JsonValue]) -> JsonValue:
    """Convert a field of an answer to its column's value: JSON text if no type holds it."""
    is_plain = column_type(schema)[1] != "varchar" or isinstance(value, str)
    return value if is_plain else json.dumps(value, ensure_ascii=False)


def answer_of_record(domain: Domain, row: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Return the fields of a row of the domain's table, as the model answered them."""
    return {name: _from_column(row[name], schema) for name, schema in domain.file.fields.items()}


def _from_column(value: Any, schema: Mapping[str, JsonValue]) -> JsonValue:  # noqa: ANN401 - any column
    is_json = column_type(schema)[1] == "varchar" and schema.get("type") in {"array", "object"}
    parsed: JsonValue = json.loads(value) if is_json else value
    return parsed
