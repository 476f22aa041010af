-- One row per stage of a shard where rows in are not kept + rejected + duplicates + failed.
-- reads: marts.funnel   params: none
select shard, stage, rows_in, rows_kept, rows_rejected, rows_duplicate, rows_failed
from marts.funnel
where not is_balanced
order by shard, stage
