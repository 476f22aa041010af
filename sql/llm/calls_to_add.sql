-- One row per bought call that llm.calls lacks, with what earlier failed attempts had used.
-- reads: llm.calls, bought (the calls of journals, one row per key)
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
left join llm.calls as earlier
    on bought.call_key = earlier.call_key and earlier.status = 'failed'
where bought.call_key not in (select call_key from llm.calls where status <> 'failed')
order by bought.call_key
