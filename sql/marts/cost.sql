-- One row per shard, stage and model: what was bought, and what it cost.
-- cost_usd is null where a price is unknown. reads: llm.calls
select
    shard,
    stage,
    model,
    count(*) as calls,
    count(*) filter (status = 'ok') as usable_calls,
    sum(attempts)::bigint as attempts,
    sum(tokens_in)::bigint as tokens_in,
    sum(tokens_cached)::bigint as tokens_cached,
    sum(tokens_out)::bigint as tokens_out,
    case when count(cost_usd) = count(*) then sum(cost_usd) end as cost_usd,
    round(avg(latency_ms) filter (status <> 'failed') / 1000, 2) as mean_seconds,
    max(created_at) as created_at
from llm.calls
group by shard, stage, model
order by shard, stage, model
