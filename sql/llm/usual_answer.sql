-- One row per stage and model: the length of an answer, and the seconds it takes.
-- reads: llm.calls
select stage, model, avg(tokens_out) as tokens_out, avg(latency_ms) / 1000 as seconds
from llm.calls
where status <> 'failed'
group by stage, model
order by stage, model
