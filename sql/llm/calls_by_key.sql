-- One row per stored call whose key is wanted.
-- reads: llm.calls, wanted (a registered list of call keys)
select
    call_key, shard, stage, model, prompt_name, prompt_version, params, request, response, status,
    error, finish_reason, tokens_in, tokens_cached, tokens_out, cost_usd, latency_ms, attempts
from llm.calls
semi join wanted using (call_key)
order by call_key
