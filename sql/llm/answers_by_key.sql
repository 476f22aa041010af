-- One row per stored answer whose key is wanted; failed calls are none.
-- reads: llm.calls, wanted (a registered list of call keys)
select call_key, model, status, response, error
from llm.calls
semi join wanted using (call_key)
where status <> 'failed'
order by call_key
