-- One row per registered shard that is asked for, with its staged file and size.
-- reads: corpus.shards   params: $shards
select shard, staged_file, row_count
from corpus.shards
where list_contains($shards, shard)
order by shard
