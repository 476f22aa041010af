-- One row per wanted persona with its vector of this embedding model, in any order: many at a time.
-- reads: personas.embeddings, places (a frame: persona_id, place)   params: $model
select places.place, embeddings.embedding
from personas.embeddings
inner join places using (persona_id)
where embeddings.model = $model
