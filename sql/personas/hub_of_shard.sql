-- One row per kept persona of a shard.
-- reads: personas.hub   params: $shard
select persona_id, persona
from personas.hub
where shard = $shard
order by persona_id
