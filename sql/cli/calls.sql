-- One row per stage, model and status of the calls in the store.
-- reads: llm.calls
select
    stage,
    model,
    status,
    count(*) as calls,
    sum(attempts)::bigint as attempts,
    sum(tokens_in)::bigint as tokens_in,
    sum(tokens_cached)::bigint as tokens_cached,
    sum(tokens_out)::bigint as tokens_out,
    case when count(cost_usd) = count(*) then sum(cost_usd) end as cost_usd,
    max(error) as an_error
from llm.calls
group by stage, model, status
order by stage, model, status
