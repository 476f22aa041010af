-- One row per shard that has work left: why, and the stage that stopped for a reason of its own.
-- why: never run, a stage is missing, an input has changed, or calls failed.
-- reads: corpus.shards, marts.funnel, runs.stops   params: $stages (all that a shard goes through)
with stages as (
    select
        shard,
        count(*) filter (list_contains($stages, stage)) as stage_count,
        count(*) filter (not is_current) as outdated_count,
        sum(rows_failed) as failed_count
    from marts.funnel
    where list_contains($stages, stage)
    group by shard
),

stopped as (
    select shard, arg_max(stage, created_at) as stage, arg_max(reason, created_at) as reason
    from runs.stops
    where stage = 'embeddings' or list_contains($stages, stage)
    group by shard
)

select
    shards.shard,
    case
        when stages.shard is null then 'never run'
        when stages.stage_count < len($stages) then 'a stage is missing'
        when stages.outdated_count > 0 then 'an input has changed'
        else 'calls failed'
    end as why,
    stopped.stage as stopped_stage,
    stopped.reason as stopped_reason
from corpus.shards
left join stages using (shard)
left join stopped using (shard)
where
    stages.shard is null
    or stages.stage_count < len($stages)
    or stages.outdated_count > 0
    or stages.failed_count > 0
order by shards.shard_number
