-- One row per kept persona of the shards, with the root document of its chain.
-- Candidates that were not compared yet are left out. A candidate whose root is being rewritten stays, without
-- a root, until its shard is run again. Each table is read for these shards only.
-- reads: personas.candidates, personas.fingerprints, personas.duplicates, personas.extracted, personas.related
-- params: $shards
with wanted as materialized (
    select unnest($shards) as shard
),

origins as (
    select shard, persona_id, persona_id as root_id, 0 as hop
    from personas.extracted
    where shard in (select shard from wanted)
    union all
    select shard, persona_id, root_id, hop
    from personas.related
    where shard in (select shard from wanted)
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
anti join personas.duplicates using (shard, persona_id)
left join origins using (shard, persona_id)
left join personas.extracted
    on candidates.shard = extracted.shard and origins.root_id = extracted.persona_id
where candidates.shard in (select shard from wanted)
order by candidates.shard, candidates.persona_id
