"""The check of the hub and the resolver agree on which pairs are similar enough."""

import sqlglot
from sqlglot import exp

from persona_pipeline.sql import read_sql


def layer_of(name: str) -> exp.Expression:
    """The expression by which a statement puts a stored pair into a layer."""
    query = sqlglot.parse_one(read_sql(name), dialect="duckdb")
    [cte] = [cte for cte in query.find_all(exp.CTE) if cte.alias == "decided"]
    layer: exp.Expression
    [layer] = [column.this for column in cte.this.expressions if column.alias == "layer"]
    return layer


def test_the_check_of_kept_pairs_and_the_resolver_have_one_rule_for_a_layer() -> None:
    assert isinstance(layer_of("dedup/links"), exp.Case)
    assert layer_of("checks/no_kept_pair") == layer_of("dedup/links")
