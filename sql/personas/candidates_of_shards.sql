-- One row per candidate of these shards, with what decides its rank.
-- reads: personas.candidates, corpus.shards   params: $shards
select
    candidates.shard,
    shards.shard_number,
    candidates.persona_id,
    candidates.persona,
    candidates.origin,
    candidates.word_count
from personas.candidates
inner join corpus.shards using (shard)
where candidates.shard in (select unnest($shards))
