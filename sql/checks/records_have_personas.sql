-- One row per record whose persona is not in the hub.
-- is_behind: the hub of its shard has been written since. Run the shard again.
-- reads: synthetic.accepted, personas.hub, runs.stages   params: none
with written as (
    select shard, max(created_at) as written_at
    from personas.hub
    group by shard
)

select
    accepted.shard,
    accepted.domain,
    accepted.record_id,
    accepted.persona_id,
    -- A hub that has lost its last persona is as old as the decision about it.
    coalesce(accepted.created_at < coalesce(written.written_at, stages.created_at), false)
        as is_behind
from synthetic.accepted
anti join personas.hub using (shard, persona_id)
left join written on accepted.shard = written.shard
left join runs.stages on accepted.shard = stages.shard and stages.stage = 'deduplication'
order by is_behind, accepted.domain, accepted.record_id
