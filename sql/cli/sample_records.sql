-- One row per shown record, each of another domain. Those of related personas come first.
-- reads: marts.lineage   params: $shards, $count
with one_each as (
    select domain, text, url, persona_path, hop, record_id
    from marts.lineage
    where list_contains($shards, shard)
    qualify row_number() over (partition by domain order by hop desc, hash(record_id)) = 1
)

select domain, text, url, persona_path
from one_each
order by hop desc, hash(record_id)
limit $count
