-- One row per shard that was compared or decided, with what both rest on; in rank order.
-- reads: runs.compared, runs.resolved, corpus.shards
select shard, coalesce(shards.shard_number, 0) as shard_number, compared.version, resolved.basis
from runs.compared
full join runs.resolved using (shard)
left join corpus.shards using (shard)
order by shard_number, shard
