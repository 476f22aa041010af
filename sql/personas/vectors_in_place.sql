-- One row per wanted persona with its vector of this embedding model, in any order: many at a time.
-- reads: personas.embeddings, places (a frame: shard, persona_id, place)   params: $model
select places.place, embeddings.embedding
from personas.embeddings
inner join places using (shard, persona_id)
where embeddings.model = $model
