-- One row per Text-to-Persona answer whose document is not in its shard.
-- is_behind: the documents have been written since. Run the shard again.
-- reads: personas.extracted, corpus.documents, runs.stages   params: none
select
    extracted.shard,
    extracted.persona_id,
    extracted.document_id,
    coalesce(extracted.created_at < stages.created_at, false) as is_behind
from personas.extracted
anti join corpus.documents using (shard, document_id)
left join runs.stages on extracted.shard = stages.shard and stages.stage = 'corpus'
order by is_behind, extracted.shard, extracted.persona_id
