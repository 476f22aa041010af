"""What assets that are partitioned by shard share: partitions, owners, policies."""

import dagster as dg

from persona_pipeline.settings import Settings


def refresh_condition() -> dg.AutomationCondition[dg.AssetKey | dg.AssetCheckKey]:
    """Of an asset that buys nothing: once after what it is made from has other rows.

    `since` asks once for each such change: a run that fails is not asked for again until something
    changes again. A table that was written anew with the same rows keeps its data version, so
    nothing after it runs. Assets that buy have no condition: no automation spends money.
    """
    has_changed = dg.AutomationCondition.any_deps_match(
        dg.AutomationCondition.data_version_changed()
    )
    was_handled = dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
    return (
        has_changed.since(was_handled)
        & ~dg.AutomationCondition.missing()
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
    ).with_label("refresh")


AT_ONCE = dg.BackfillPolicy.single_run()
"""Of assets that buy nothing: 200 shards cost one start of a process (3 CPU-seconds), not 200."""


def some_at_once(settings: Settings) -> dg.BackfillPolicy:
    """Of assets that buy answers: a few shards in a run, whose budget they share."""
    return dg.BackfillPolicy.multi_run(max_partitions_per_run=settings.shards_per_run)


SHARDS = dg.DynamicPartitionsDefinition(name="shards")
REGISTERED = dg.DataVersion("registered")
"""Of the assets that register shards: a new shard is no news for those that are there."""
OWNERS = ["team:data"]
