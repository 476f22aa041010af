-- One row per shard with records that may be of other personas than are there now: of another hub, or of a selection.
-- reads: marts.funnel, runs.stages
select distinct funnel.shard
from marts.funnel
inner join runs.stages using (shard, stage)
where starts_with(funnel.stage, 'synthetic.') and (not funnel.is_current or stages.source is not null)
order by funnel.shard
