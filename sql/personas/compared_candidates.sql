-- One row per candidate that has been compared, with its text and what decides its rank.
-- reads: personas.fingerprints, personas.candidates, corpus.shards   params: none
select
    fingerprints.shard,
    fingerprints.persona_id,
    candidates.persona,
    shards.shard_number,
    fingerprints.quality
from personas.fingerprints
inner join personas.candidates using (shard, persona_id)
inner join corpus.shards using (shard)
order by fingerprints.persona_id
