-- One row per candidate of these shards that has a vector of this embedding model: its length.
-- reads: personas.embeddings   params: $model, $shards
select shard, persona_id, len(embedding) as length
from personas.embeddings
where model = $model and shard in (select unnest($shards))
