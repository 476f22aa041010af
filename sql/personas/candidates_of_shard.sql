-- One row per candidate of a shard.
-- reads: personas.candidates   params: $shard
select persona_id, persona
from personas.candidates
where shard = $shard
order by persona_id
