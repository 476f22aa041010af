-- One row per stage of a shard where rows in differ from kept + rejected + duplicates + failed.
-- is_behind: a run has decided the duplicates and has not yet written the hub.
-- reads: marts.funnel, personas.hub   params: none
with hubs as (
    select shard, max(created_at) as made_at
    from personas.hub
    group by shard
)

select
    funnel.shard,
    funnel.stage,
    funnel.rows_in,
    funnel.rows_kept,
    funnel.rows_rejected,
    funnel.rows_duplicate,
    funnel.rows_failed,
    funnel.stage = 'deduplication'
    and coalesce(hubs.made_at < funnel.created_at, true) as is_behind
from marts.funnel
left join hubs using (shard)
where not funnel.is_balanced
order by funnel.shard, funnel.stage
