-- One row per shard that has candidates, or had some when it was last compared, in rank order.
-- reads: corpus.shards, personas.candidates, personas.embeddings, runs.compared
-- params: $model
with candidates as (
    select shard, count(*) as candidate_count, max(created_at) as candidates_at
    from personas.candidates
    group by shard
),

vectors as (
    select shard, max(created_at) as vectors_at
    from personas.embeddings
    where model = $model
    group by shard
),

named as (
    select shard from candidates
    union
    select shard from runs.compared
)

select
    named.shard,
    coalesce(shards.shard_number, 0) as shard_number,
    coalesce(candidates.candidate_count, 0) as candidate_count,
    candidates.candidates_at::varchar as candidates_at,
    vectors.vectors_at::varchar as vectors_at,
    compared.version
from named
left join corpus.shards using (shard)
left join candidates using (shard)
left join vectors using (shard)
left join runs.compared using (shard)
order by shard_number, named.shard
