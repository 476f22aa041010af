-- One row per removed persona whose keeper is no candidate, or was removed itself.
-- is_behind: candidates of this or an earlier shard have been written since. The next run decides again.
-- reads: personas.duplicates, personas.candidates, corpus.shards, runs.stages   params: none
with keepers as (
    select candidates.persona_id as kept_id
    from personas.candidates
    anti join personas.duplicates on candidates.persona_id = duplicates.persona_id
),

judged as (
    select
        shards.shard,
        max(stages.created_at) over (order by shards.shard_number) as judged_at
    from corpus.shards
    left join runs.stages on shards.shard = stages.shard and stages.stage = 'quality_rules'
)

select
    duplicates.shard,
    duplicates.persona_id,
    duplicates.kept_id,
    duplicates.layer,
    coalesce(duplicates.created_at < judged.judged_at, false) as is_behind
from personas.duplicates
anti join keepers using (kept_id)
left join judged using (shard)
order by is_behind, duplicates.shard, duplicates.persona_id
