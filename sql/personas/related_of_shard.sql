-- One row per Persona-to-Persona answer of a shard.
-- reads: personas.related   params: $shard
select persona_id, persona, call_key
from personas.related
where shard = $shard
order by persona_id
