-- One row per stage and reason that rows were rejected for, the most frequent first.
-- reads: corpus.rejected, personas.rejected, personas.duplicates, synthetic.rejected
-- params: $shards
with turned_away as (
    select shard, 'corpus' as stage, reason from corpus.rejected
    union all
    select shard, stage, reason from personas.rejected
    union all
    select shard, 'deduplication', layer || ' duplicate' from personas.duplicates
    union all
    select shard, 'synthetic.' || domain, reason from synthetic.rejected
)

select stage, reason, count(*) as rows
from turned_away
where list_contains($shards, shard)
group by stage, reason
order by rows desc, stage, reason
