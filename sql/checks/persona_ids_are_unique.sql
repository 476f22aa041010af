-- One row per candidate that is there more than once.
-- reads: personas.candidates   params: none
select persona_id, count(*) as row_count, min(shard) as first_shard, max(shard) as last_shard
from personas.candidates
group by persona_id
having count(*) > 1
order by persona_id
