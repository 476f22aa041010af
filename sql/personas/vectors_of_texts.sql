-- One row per text of the shards but these, with its vector of this embedding model.
-- reads: personas.fingerprints, personas.embeddings   params: $model, $but
select fingerprints.text_key, arg_min(embeddings.embedding, persona_id) as embedding
from personas.fingerprints
inner join personas.embeddings using (persona_id)
where embeddings.model = $model and not list_contains($but, fingerprints.shard)
group by fingerprints.text_key
order by fingerprints.text_key
