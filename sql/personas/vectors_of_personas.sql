-- One row per wanted persona that has a vector of this embedding model.
-- reads: personas.embeddings, wanted_personas (a frame)   params: $model
select persona_id, embedding
from personas.embeddings
semi join wanted_personas using (shard, persona_id)
where model = $model
order by persona_id
