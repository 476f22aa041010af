-- One row per call that is stored more than once. It was paid for or committed twice.
-- reads: llm.calls   params: none
select call_key, count(*) as row_count, min(stage) as stage, sum(cost_usd) as cost_usd
from llm.calls
group by call_key
having count(*) > 1
order by call_key
