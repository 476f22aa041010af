-- One row per shard to write the hub of: this one, and those whose hub is out of date.
-- A hub is out of date if it differs from the candidates without duplicates.
-- reads: corpus.shards, personas.candidates, personas.fingerprints, personas.duplicates, personas.hub,
-- runs.resolved
-- params: $shard
with kept as (
    select candidates.shard, candidates.persona_id
    from personas.candidates
    semi join personas.fingerprints using (shard, persona_id)
    anti join personas.duplicates on candidates.persona_id = duplicates.persona_id
),

differing as (
    select kept.shard from kept anti join personas.hub using (shard, persona_id)
    union
    select hub.shard from personas.hub anti join kept using (shard, persona_id)
)

select shard
from corpus.shards
where
    shard = $shard
    or (
        shard in (select shard from differing)
        and shard in (select shard from runs.resolved)
    )
order by shard_number
