-- Which documents have no persona in the hub, and what became of the personas they gave?
-- One row per document. ends: no_persona (not asked yet, or no usable answer), a reason of the quality rules,
-- duplicate or not_decided. reads: corpus.documents, personas.extracted, personas.related, personas.hub,
-- personas.rejected, personas.duplicates
with people as (
    select persona_id, document_id
    from personas.extracted
    union all
    select related.persona_id, extracted.document_id
    from personas.related
    inner join personas.extracted on related.root_id = extracted.persona_id
),

ends as (
    select
        people.document_id,
        count(*) as persona_count,
        count(hub.persona_id) as hub_count,
        list(distinct case
            when duplicates.persona_id is not null then 'duplicate'
            else coalesce(rejected.reason, 'not_decided')
        end) as ends
    from people
    left join personas.hub on people.persona_id = hub.persona_id
    left join personas.duplicates on people.persona_id = duplicates.persona_id
    left join personas.rejected
        on people.persona_id = rejected.persona_id and rejected.stage = 'quality_rules'
    group by people.document_id
)

select
    documents.shard,
    documents.topic,
    documents.title,
    documents.url,
    documents.char_count,
    coalesce(ends.persona_count, 0) as personas,
    coalesce(list_sort(ends.ends), ['no_persona']) as ends,
    documents.document_id
from corpus.documents
left join ends on documents.document_id = ends.document_id
where coalesce(ends.hub_count, 0) = 0
order by documents.shard, documents.document_id
