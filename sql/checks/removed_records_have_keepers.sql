-- One row per removed record whose keeper is no record of its domain, or was removed itself.
-- is_behind: records of this or an earlier shard have been written since. The next run decides again.
-- reads: synthetic.duplicates, synthetic.records, corpus.shards, runs.stages   params: none
with keepers as (
    select domain, record_id as kept_id from synthetic.records
),

asked as (
    select
        stages.shard,
        split_part(stages.stage, '.', 2) as domain,
        max(stages.created_at) over (
            partition by stages.stage order by shards.shard_number
        ) as asked_at
    from runs.stages
    inner join corpus.shards using (shard)
    where stages.stage like 'synthetic.%'
)

select
    duplicates.shard,
    duplicates.domain,
    duplicates.record_id,
    duplicates.kept_id,
    duplicates.layer,
    coalesce(duplicates.created_at < asked.asked_at, false) as is_behind
from synthetic.duplicates
anti join keepers using (domain, kept_id)
left join asked using (shard, domain)
order by is_behind, duplicates.domain, duplicates.record_id
