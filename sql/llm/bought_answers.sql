-- One row per bought answer, as it is exported: without the run that bought it.
-- reads: llm.calls
select
    call_key, shard, stage, model, prompt_name, prompt_version, params, request, response, status,
    error, finish_reason, tokens_in, tokens_cached, tokens_out, cost_usd, latency_ms, attempts,
    reasoning
from llm.calls
where status <> 'failed'
order by call_key
