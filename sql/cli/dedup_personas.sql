-- One row per candidate whose id begins with the prefix: its origin, and its keeper if it was removed.
-- is_decided: the duplicates of its shard are decided.
-- reads: personas.candidates, personas.duplicates, personas.extracted, personas.related,
-- corpus.documents, runs.resolved   params: $prefix, $count
with matches as (
    select shard, persona_id, persona, origin
    from personas.candidates
    where starts_with(persona_id, $prefix)
    qualify row_number() over (partition by persona_id order by shard) = 1
),

roots as (
    select persona_id, persona_id as root_id from personas.extracted
    union all
    select persona_id, root_id from personas.related
)

select
    matches.persona_id,
    matches.persona,
    matches.shard,
    matches.origin,
    any_value(documents.url) as url,
    any_value(documents.title) as title,
    matches.shard in (select shard from runs.resolved) as is_decided,
    duplicates.kept_id,
    duplicates.layer,
    duplicates.similarity,
    duplicates.threshold,
    duplicates.fuzzy_score
from matches
left join personas.duplicates on matches.persona_id = duplicates.persona_id
left join roots on matches.persona_id = roots.persona_id
left join personas.extracted on roots.root_id = extracted.persona_id
left join corpus.documents on extracted.document_id = documents.document_id
group by all
order by matches.persona_id
limit $count
