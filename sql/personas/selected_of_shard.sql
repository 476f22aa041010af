-- One row per persona of a shard that is in the selection and still in the hub.
-- reads: personas.selections, personas.hub   params: $shard, $name
select persona_id, hub.persona
from personas.hub
semi join
    (select shard, persona_id from personas.selections where name = $name)
    using (shard, persona_id)
where shard = $shard
order by persona_id
