-- One row per removed persona whose keeper is no candidate, or was removed itself.
-- is_behind: the next run decides this shard again, since this or an earlier shard has changed.
-- reads: personas.duplicates, personas.candidates   params: $outdated (shards)
with keepers as (
    select candidates.persona_id as kept_id
    from personas.candidates
    anti join personas.duplicates on candidates.persona_id = duplicates.persona_id
)

select
    duplicates.shard,
    duplicates.persona_id,
    duplicates.kept_id,
    duplicates.layer,
    list_contains($outdated, duplicates.shard) as is_behind
from personas.duplicates
anti join keepers using (kept_id)
order by is_behind, duplicates.shard, duplicates.persona_id
