-- One row per Persona-to-Persona answer whose parent or root is not in its shard.
-- is_behind: the roots have been written since. Run the shard again.
-- reads: personas.related, personas.extracted, runs.stages   params: none
with parents as (
    select shard, persona_id as parent_id from personas.extracted
    union all
    select shard, persona_id from personas.related
),

roots as (
    select shard, persona_id as root_id from personas.extracted
),

complete as (
    select shard, persona_id, parent_id, root_id
    from personas.related
    semi join parents using (shard, parent_id)
    semi join roots using (shard, root_id)
)

select
    related.shard,
    related.persona_id,
    related.parent_id,
    related.root_id,
    coalesce(related.created_at < stages.created_at, false) as is_behind
from personas.related
anti join complete using (shard, persona_id, parent_id, root_id)
left join runs.stages on related.shard = stages.shard and stages.stage = 'text_to_persona'
order by is_behind, related.shard, related.persona_id
