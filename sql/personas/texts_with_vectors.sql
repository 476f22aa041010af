-- One row per compared candidate of the shards but these that has a vector of this embedding model.
-- reads: personas.fingerprints, personas.embeddings   params: $model, $but
select
    fingerprints.shard,
    fingerprints.persona_id,
    fingerprints.text_key,
    len(embeddings.embedding) as length
from personas.fingerprints
inner join personas.embeddings using (persona_id)
where embeddings.model = $model and fingerprints.shard not in (select unnest($but))
