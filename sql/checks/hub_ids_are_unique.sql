-- One row per persona that is in the hub more than once.
-- reads: personas.hub   params: none
select persona_id, count(*) as row_count, min(shard) as first_shard, max(shard) as last_shard
from personas.hub
group by persona_id
having count(*) > 1
order by persona_id
