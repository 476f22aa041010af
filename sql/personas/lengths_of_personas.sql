-- One row per wanted persona that has a vector of this embedding model: its length.
-- reads: personas.embeddings, wanted_personas (a frame)   params: $model
select shard, persona_id, len(embedding) as length
from personas.embeddings
semi join wanted_personas using (shard, persona_id)
where model = $model
