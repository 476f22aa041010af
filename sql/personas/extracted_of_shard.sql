-- One row per Text-to-Persona answer of a shard.
-- reads: personas.extracted   params: $shard
select persona_id, persona, call_key
from personas.extracted
where shard = $shard
order by persona_id
