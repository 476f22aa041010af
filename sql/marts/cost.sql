-- One row per shard, stage and model: calls, their cost, and the cost of a kept row.
-- kept_rows: personas in the hub, or records, that the answers led to. Amounts are in USD, and null if a
-- price is unknown.
-- reads: llm.calls, personas.hub, personas.extracted, personas.related, synthetic.records
with kept as (
    select origins.call_key, count(*) as kept_rows
    from personas.hub
    inner join
        (
            select persona_id, shard, call_key from personas.extracted
            union all
            select persona_id, shard, call_key from personas.related
        ) as origins using (persona_id, shard)
    group by origins.call_key
    union all
    select call_key, count(*)
    from synthetic.records
    group by call_key
)

select
    shard,
    stage,
    case when stage like 'synthetic.%' then split_part(stage, '.', 2) end as domain,
    model,
    count(*) as calls,
    count(*) filter (status = 'ok') as usable_calls,
    coalesce(sum(kept_rows), 0)::bigint as kept_rows,
    sum(attempts)::bigint as attempts,
    sum(tokens_in)::bigint as tokens_in,
    sum(tokens_cached)::bigint as tokens_cached,
    sum(tokens_out)::bigint as tokens_out,
    case when count(cost_usd) = count(*) then sum(cost_usd) end as cost_usd,
    case when count(cost_usd) = count(*) then sum(cost_usd) / nullif(sum(kept_rows), 0) end
        as usd_per_kept,
    round(avg(latency_ms) filter (status <> 'failed') / 1000, 2) as mean_seconds,
    max(created_at) as created_at
from llm.calls
left join kept using (call_key)
group by shard, stage, model
order by shard, stage, model
