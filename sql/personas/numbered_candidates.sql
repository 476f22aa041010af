-- One row per candidate of any shard, with the rank of its shard: the lower one wins.
-- reads: personas.candidates, corpus.shards
select candidates.shard, shards.shard_number, candidates.persona_id, candidates.persona
from personas.candidates
inner join corpus.shards using (shard)
order by candidates.persona_id
