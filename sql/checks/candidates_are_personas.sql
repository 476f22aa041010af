-- One row per candidate that no answer of its shard has.
-- is_behind: answers have been written since. Run the shard again.
-- reads: personas.candidates, personas.extracted, personas.related, runs.stages   params: none
with answers as (
    select shard, persona_id from personas.extracted
    union all
    select shard, persona_id from personas.related
),

asked as (
    select shard, max(created_at) as asked_at
    from runs.stages
    where stage in ('text_to_persona', 'persona_to_persona')
    group by shard
),

judged as (
    select shard, created_at as judged_at
    from runs.stages
    where stage = 'quality_rules'
)

select
    candidates.shard,
    candidates.persona_id,
    candidates.origin,
    coalesce(coalesce(judged.judged_at, candidates.created_at) < asked.asked_at, false) as is_behind
from personas.candidates
anti join answers using (shard, persona_id)
left join asked using (shard)
left join judged using (shard)
order by is_behind, candidates.shard, candidates.persona_id
