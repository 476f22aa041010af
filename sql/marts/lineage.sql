-- One row per kept record, with the chain back to the document.
-- reads: synthetic.records, personas.extracted, personas.related, corpus.documents, llm.calls
with recursive ancestry as (
    select distinct persona_id, persona_id as ancestor_id, 0 as steps
    from synthetic.records
    union all
    select ancestry.persona_id, related.parent_id, ancestry.steps + 1
    from ancestry
    inner join personas.related on ancestry.ancestor_id = related.persona_id
),

texts as (
    select persona_id, persona, null::varchar as relationship from personas.extracted
    union all
    select persona_id, persona, relationship from personas.related
),

paths as (
    select
        ancestry.persona_id,
        max(ancestry.steps) as hop,
        arg_max(ancestry.ancestor_id, ancestry.steps) as root_id,
        arg_min(texts.persona, ancestry.steps) as persona,
        arg_min(texts.relationship, ancestry.steps) as relationship,
        list(texts.persona order by ancestry.steps desc) as persona_path
    from ancestry
    inner join texts on ancestry.ancestor_id = texts.persona_id
    group by ancestry.persona_id
)

select
    records.shard,
    records.domain,
    records.record_id,
    records.text,
    records.variant,
    records.persona_id,
    paths.persona,
    paths.hop,
    paths.relationship,
    paths.persona_path,
    paths.root_id,
    extracted.verb,
    documents.document_id,
    documents.title,
    documents.url,
    documents.source,
    documents.topic,
    documents.license,
    records.call_key,
    calls.model,
    calls.prompt_version,
    records.run_id,
    records.created_at
from synthetic.records
left join paths using (persona_id)
left join personas.extracted on paths.root_id = extracted.persona_id
left join corpus.documents
    on extracted.document_id = documents.document_id and extracted.shard = documents.shard
left join llm.calls on records.call_key = calls.call_key
order by records.domain, records.record_id
