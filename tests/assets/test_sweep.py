from base64 import b64decode

import dagster as dg

from assets.jobs import MAIN_JOB
from tests.support.platform import Platform

SWEEP = dg.AssetKey(["personas", "sweep"])


def test_the_sweep_is_made_on_demand_and_shows_a_plot(finished_platform: Platform) -> None:
    platform = finished_platform
    assert platform.rows("personas.sweep") == []
    main = platform.definitions.resolve_job_def(MAIN_JOB)
    assert SWEEP not in main.asset_layer.executable_asset_keys

    result = platform.materialize("personas/sweep")

    assert result.success
    rows = platform.store.query("from personas.sweep order by threshold desc")
    assert len(rows) == 12
    assert set(rows["shard"]) == {"all"}
    assert (rows["kept"] + rows["removed"] == rows["candidates"]).all()
    [hub] = platform.store.query("select count(*) from personas.hub").row(0)
    assert rows.row(1, named=True)["threshold"] == 0.9
    assert rows.row(1, named=True)["kept"] == hub
    [event] = result.get_asset_materialization_events()
    plot = str(event.materialization.metadata["plot"].value)
    start = "![personas kept](data:image/svg+xml;base64,"
    assert plot.startswith(start)
    assert b64decode(plot[len(start) : -1]).startswith(b"<svg ")
    assert event.materialization.metadata["shards_not_compared"].value == []
