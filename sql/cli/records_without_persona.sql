-- One row per shard with records of personas that are not in its hub, or not in their domain's selection, any more.
-- reads: synthetic.records, runs.stages, personas.hub, personas.selections
-- params: $shards (others are not looked at)
with written as (
    select records.shard, records.persona_id, stages.source
    from synthetic.records
    left join runs.stages
        on records.shard = stages.shard and stages.stage = 'synthetic.' || records.domain
    where records.shard in (select unnest($shards))
),

offered as (
    select shard, persona_id, null::varchar as source from personas.hub
    union all
    select hub.shard, hub.persona_id, selections.name
    from personas.hub
    inner join personas.selections using (shard, persona_id)
)

select written.shard, count(*) as record_count
from written
anti join offered
    on
        written.shard = offered.shard
        and written.persona_id = offered.persona_id
        and written.source is not distinct from offered.source
group by written.shard
order by written.shard
