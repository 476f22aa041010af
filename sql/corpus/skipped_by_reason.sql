-- One row per reason for which records of the shards' sources hold no page, the most frequent first.
-- reads: corpus.skipped, corpus.shards   params: $shards
select reason, sum(record_count)::bigint as record_count
from corpus.skipped
where source in (select source from corpus.shards where list_contains($shards, shard))
group by reason
order by record_count desc, reason
