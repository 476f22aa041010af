-- One row per selection and shard of the run that has asked for personas since the selection was made.
-- reads: personas.selections, llm.calls   params: $names, $shards
with made as (
    select name, max(created_at) as made_at
    from personas.selections
    where list_contains($names, name)
    group by name
),

asked as (
    select shard, max(created_at) as asked_at
    from llm.calls
    where list_contains($shards, shard) and stage = 'text_to_persona'
    group by shard
)

select made.name, asked.shard
from made
inner join asked on made.made_at < asked.asked_at
order by made.name, asked.shard
