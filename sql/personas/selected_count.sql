-- One row: how many personas of the selection are in the hub.
-- reads: personas.selections, personas.hub   params: $name
select count(*) as persona_count
from personas.selections
inner join personas.hub using (shard, persona_id)
where selections.name = $name
