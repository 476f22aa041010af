-- One row per shard whose duplicates depend on this one: itself, and later ones with candidates.
-- reads: corpus.shards, personas.candidates   params: $shard
select shard
from corpus.shards
where
    shard = $shard
    or (
        shard_number > (select shard_number from corpus.shards where shard = $shard)
        and shard in (select shard from personas.candidates)
    )
order by shard_number
