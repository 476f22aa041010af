-- One row per persona of a selection, in the order of selection. persona is null if the hub lost it.
-- reads: personas.selections, personas.hub   params: $name
select
    selections.place,
    selections.shard,
    selections.persona_id,
    selections.distance,
    hub.persona
from personas.selections
left join personas.hub using (shard, persona_id)
where selections.name = $name
order by selections.place
