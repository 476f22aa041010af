"""Asset checks: what must hold in the data, whoever materialized it."""

import dagster as dg

from assets.marts import FUNNEL
from assets.resources import StoreResource

UNBALANCED = "select * from marts.funnel where not is_balanced"
STALE = "select distinct shard from marts.funnel where not is_current order by shard"
UNTRACED = "select count(*) from marts.lineage where url is null"


@dg.asset_check(asset=FUNNEL, blocking=True)
def no_row_is_lost(duckdb: StoreResource) -> dg.AssetCheckResult:
    """In every stage and shard, rows in = kept + rejected + duplicates + failed."""
    unbalanced = duckdb.store.query(UNBALANCED)
    stages = [f"{row['stage']} of {row['shard']}" for row in unbalanced.iter_rows(named=True)]
    return dg.AssetCheckResult(
        passed=not stages,
        metadata={"unbalanced_stages": stages},
        description="rows are missing" if stages else "every row is accounted for",
    )


@dg.asset_check(asset=FUNNEL)
def no_stage_is_behind(duckdb: StoreResource) -> dg.AssetCheckResult:
    """No stage's input has changed since it ran; those named should be run again."""
    shards = duckdb.store.query(STALE)["shard"].to_list()
    return dg.AssetCheckResult(
        passed=not shards,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"shards_to_run_again": shards},
    )


@dg.asset_check(asset=["marts", "lineage"])
def every_record_has_a_page(duckdb: StoreResource) -> dg.AssetCheckResult:
    """Every synthetic record leads back to a URL."""
    [untraced] = duckdb.store.query(UNTRACED).row(0)
    return dg.AssetCheckResult(passed=untraced == 0, metadata={"records_without_url": untraced})


CHECKS = [no_row_is_lost, no_stage_is_behind, every_record_has_a_page]
