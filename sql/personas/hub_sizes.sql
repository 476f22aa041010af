-- One row per shard in rank order: how many of its personas are in the hub, and a hash of their ids.
-- reads: corpus.shards, personas.hub
with hubs as (
    select shard, count(*) as persona_count, bit_xor(hash(persona_id)) as members
    from personas.hub
    group by shard
)

select
    shards.shard,
    coalesce(hubs.persona_count, 0) as persona_count,
    coalesce(hubs.members, 0)::ubigint as members
from corpus.shards
left join hubs using (shard)
order by shards.shard_number
