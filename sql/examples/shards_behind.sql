-- Which shards should be run again, and what of theirs is out of date?
-- One row per shard. stages: those whose input has changed since they ran. records_without_persona: their personas have
-- left the hub. reads: corpus.shards, marts.funnel, synthetic.records, personas.hub
with outdated as (
    select shard, list(stage order by stage) as stages
    from marts.funnel
    where not is_current
    group by shard
),

left_behind as (
    select records.shard, count(*) as record_count
    from synthetic.records
    anti join personas.hub using (shard, persona_id)
    group by records.shard
)

select
    shards.shard,
    shards.source_spec as source,
    coalesce(outdated.stages, []) as stages,
    coalesce(left_behind.record_count, 0) as records_without_persona
from corpus.shards
left join outdated using (shard)
left join left_behind using (shard)
where outdated.shard is not null or left_behind.shard is not null
order by shards.shard_number
