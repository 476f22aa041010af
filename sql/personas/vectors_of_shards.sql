-- One row per candidate of these shards that has a vector of this embedding model.
-- reads: personas.embeddings   params: $model, $shards
select persona_id, embedding
from personas.embeddings
where model = $model and list_contains($shards, shard)
order by persona_id
