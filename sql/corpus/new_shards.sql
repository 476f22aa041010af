-- One row per shard of a watched place that no run has begun with.
-- reads: corpus.shards, runs.stages   params: $places
select shards.shard, shards.content_hash || ' ' || shards.run_id as registration
from corpus.shards
where
    shards.source_spec in (select unnest($places))
    and shards.shard not in (select stages.shard from runs.stages)
order by shards.shard_number
