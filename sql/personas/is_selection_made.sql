-- One row: whether the selection has a persona that is in the hub.
-- reads: personas.selections, personas.hub   params: $name
select count(*) > 0 as is_made
from personas.selections
inner join personas.hub using (shard, persona_id)
where selections.name = $name
