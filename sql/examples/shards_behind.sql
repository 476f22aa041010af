-- Which shards should be run again, and what is out of date in them?
-- One row per shard. stages: those whose input has changed since they ran. records_without_persona: records whose
-- persona has left the hub, or the selection of the domain.
-- reads: corpus.shards, marts.funnel, synthetic.records, runs.stages, personas.hub, personas.selections
with outdated as (
    select shard, list(stage order by stage) as stages
    from marts.funnel
    where not is_current
    group by shard
),

affected as ( -- records of other shards have all their personas
    select shard from outdated
    union
    select shard from runs.stages where source is not null
),

written as (
    select records.shard, records.persona_id, stages.source
    from synthetic.records
    left join runs.stages
        on records.shard = stages.shard and stages.stage = 'synthetic.' || records.domain
    where records.shard in (select shard from affected)
),

offered as (
    select shard, persona_id, null::varchar as source
    from personas.hub
    where shard in (select shard from affected)
    union all
    select hub.shard, hub.persona_id, selections.name
    from personas.hub
    inner join personas.selections using (shard, persona_id)
),

left_behind as (
    select written.shard, count(*) as record_count
    from written
    anti join offered
        on
            written.shard = offered.shard
            and written.persona_id = offered.persona_id
            and written.source is not distinct from offered.source
    group by written.shard
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
