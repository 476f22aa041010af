-- One row per persona of the hub that is no candidate of its shard, or is a removed duplicate.
-- is_behind: its shard has been judged or decided since. The next run of any shard repairs it.
-- reads: personas.hub, personas.candidates, personas.duplicates, runs.stages   params: none
with kept as (
    select candidates.shard, candidates.persona_id
    from personas.candidates
    anti join personas.duplicates on candidates.persona_id = duplicates.persona_id
),

decided as (
    select shard, max(created_at) as decided_at
    from runs.stages
    where stage in ('quality_rules', 'deduplication')
    group by shard
)

select
    hub.shard,
    hub.persona_id,
    hub.origin,
    coalesce(hub.created_at < decided.decided_at, false) as is_behind
from personas.hub
anti join kept using (shard, persona_id)
left join decided using (shard)
order by is_behind, hub.shard, hub.persona_id
