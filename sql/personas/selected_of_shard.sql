-- One row per persona of a shard that a selection chose and the hub still has.
-- reads: personas.selections, personas.hub   params: $shard, $name
select persona_id, hub.persona
from personas.hub
semi join
    (select shard, persona_id from personas.selections where name = $name)
    using (shard, persona_id)
where shard = $shard
order by persona_id
