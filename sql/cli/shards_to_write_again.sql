-- One row per shard with records that were written for other personas than it has now.
-- reads: marts.funnel
select distinct shard
from marts.funnel
where starts_with(stage, 'synthetic.') and not is_current
order by shard
