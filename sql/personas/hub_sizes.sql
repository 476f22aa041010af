-- One row per shard, in line: how many personas of it are in the hub.
-- reads: corpus.shards, personas.hub
with counts as (select shard, count(*) as persona_count from personas.hub group by shard)

select shards.shard, coalesce(counts.persona_count, 0) as persona_count
from corpus.shards
left join counts using (shard)
order by shards.shard_number
