-- One row per stored answer whose key is wanted; failed calls are none.
-- reads: llm.calls   params: $keys (call keys with a comma between two: a list costs 90 ms to pass)
select call_key, model, status, response, error
from llm.calls
where call_key in (select unnest(string_split($keys, ','))) and status <> 'failed'
order by call_key
