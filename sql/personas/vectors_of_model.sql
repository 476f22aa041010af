-- One row per candidate that has a vector of this embedding model.
-- reads: personas.embeddings   params: $model
select persona_id, embedding
from personas.embeddings
where model = $model
order by persona_id
