-- One row per shard that was decided: which candidates it has, and which of them were removed.
-- reads: runs.stages, corpus.shards
select stages.shard, string_agg(stages.output_version, ' ' order by stages.stage) as hub_version
from runs.stages
inner join corpus.shards using (shard)
where stages.stage in ('quality_rules', 'deduplication')
group by stages.shard, shards.shard_number
order by shards.shard_number
