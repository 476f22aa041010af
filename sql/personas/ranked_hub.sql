-- One row per kept persona of all shards, with what decides its rank.
-- reads: personas.hub, personas.candidates, corpus.shards   params: none
select
    hub.shard,
    shards.shard_number,
    hub.persona_id,
    hub.persona,
    hub.origin,
    candidates.word_count
from personas.hub
inner join corpus.shards using (shard)
left join personas.candidates using (shard, persona_id)
order by hub.persona_id
