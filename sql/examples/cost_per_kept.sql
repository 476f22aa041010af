-- What did each stage cost, and each kept persona or record?
-- One row per stage and model. Amounts are empty if a price is unknown. reads: marts.cost
select
    stage,
    model,
    sum(calls)::bigint as calls,
    sum(kept_rows)::bigint as kept_rows,
    sum(tokens_in)::bigint as tokens_in,
    sum(tokens_out)::bigint as tokens_out,
    case when count(cost_usd) = count(*) then sum(cost_usd) end as cost_usd,
    case when count(cost_usd) = count(*) then sum(cost_usd) / nullif(sum(kept_rows), 0) end
        as usd_per_kept
from marts.cost
group by stage, model
order by cost_usd desc nulls last, stage, model
