-- One row per stage of the shard that is asked for: what its rows are now, and since when.
-- reads: runs.stages   params: $shard, $stages
select stage, output_version, created_at
from runs.stages
where shard = $shard and stage in (select unnest($stages))
order by stage
