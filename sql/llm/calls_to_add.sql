-- One row per bought call that llm.calls lacks, with what earlier failed attempts had used. A call
-- that failed for want of room is replaced by one that had more room for thoughts.
-- reads: bought (the calls of journals, one row per key), stored (those that llm.calls has of them)
with replaced as (
    select bought.call_key
    from bought
    inner join stored using (call_key)
    where stored.status = 'invalid' and llm.room_of(bought.params) > llm.room_of(stored.params)
)

select
    bought.call_key, bought.shard, bought.stage, bought.model, bought.prompt_name,
    bought.prompt_version, bought.params, bought.request, bought.response, bought.status,
    bought.error, bought.finish_reason,
    (bought.tokens_in + coalesce(earlier.tokens_in, 0))::bigint as tokens_in,
    (bought.tokens_cached + coalesce(earlier.tokens_cached, 0))::bigint as tokens_cached,
    (bought.tokens_out + coalesce(earlier.tokens_out, 0))::bigint as tokens_out,
    bought.cost_usd + if(earlier.call_key is null, 0, earlier.cost_usd) as cost_usd,
    (bought.latency_ms + coalesce(earlier.latency_ms, 0))::bigint as latency_ms,
    (bought.attempts + coalesce(earlier.attempts, 0))::bigint as attempts,
    bought.reasoning
from bought
left join stored as earlier
    on
        bought.call_key = earlier.call_key
        and (earlier.status = 'failed' or earlier.call_key in (select call_key from replaced))
where
    bought.call_key not in (
        select call_key
        from stored
        where status <> 'failed' and call_key not in (select call_key from replaced)
    )
order by bought.call_key
