-- One row per compared candidate of these shards that has a vector of this embedding model.
-- reads: personas.fingerprints, personas.embeddings   params: $model, $shards
select
    fingerprints.shard,
    fingerprints.persona_id,
    fingerprints.text_key,
    len(embeddings.embedding) as length
from personas.fingerprints
inner join personas.embeddings using (shard, persona_id)
where embeddings.model = $model and fingerprints.shard in (select unnest($shards))
