-- One row per kept persona of the shards, with the root document of its chain.
-- Candidates that were not compared yet are left out. A candidate whose root is being rewritten stays, without
-- a root, until its shard is run again.
-- reads: personas.candidates, personas.fingerprints, personas.duplicates, personas.extracted, personas.related
-- params: $shards
with origins as (
    select persona_id, persona_id as root_id, 0 as hop from personas.extracted
    union all
    select persona_id, root_id, hop from personas.related
)

select
    candidates.shard,
    candidates.persona_id,
    candidates.origin,
    candidates.persona,
    origins.root_id,
    extracted.document_id as root_document_id,
    origins.hop
from personas.candidates
semi join personas.fingerprints using (shard, persona_id)
anti join personas.duplicates on candidates.persona_id = duplicates.persona_id
left join origins on candidates.persona_id = origins.persona_id
left join personas.extracted on origins.root_id = extracted.persona_id
where list_contains($shards, candidates.shard)
order by candidates.shard, candidates.persona_id
