-- One row per shard with stages whose input has changed since they ran. Run the shard again.
-- reads: marts.funnel   params: none
select shard, string_agg(stage, ', ' order by stage) as stages
from marts.funnel
where not is_current
group by shard
order by shard
