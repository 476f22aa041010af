-- One row per source, topic and language: how many documents reached the hub and the records.
-- A document is waiting for a model, gave no persona, gave personas of which none is in the hub (yet), or has
-- personas in the hub. Everything is counted once, so the columns add up to the tables. Personas and records
-- whose document is being rewritten are in a row without a source.
-- reads: corpus.documents, personas.extracted, personas.related, personas.hub, synthetic.records, runs.stages
with origins as (
    select shard, persona_id, document_id, true as is_extracted from personas.extracted
    union all
    select related.shard, related.persona_id, extracted.document_id, false
    from personas.related
    left join personas.extracted
        on related.root_id = extracted.persona_id and related.shard = extracted.shard
),

written as (
    select shard, persona_id, count(*) as record_count
    from synthetic.records
    group by shard, persona_id
),

people as (
    select
        shard,
        origins.document_id,
        coalesce(origins.is_extracted, false) as is_extracted,
        origins.persona_id is not null as is_made,
        hub.persona_id is not null as is_in_hub,
        coalesce(written.record_count, 0) as record_count
    from origins
    full join personas.hub using (shard, persona_id)
    full join written using (shard, persona_id)
),

by_document as (
    select
        shard,
        document_id,
        count(*) filter (is_extracted) as extracted,
        count(*) filter (is_made) as made,
        count(*) filter (is_in_hub) as in_hub,
        count(*) filter (is_in_hub and record_count = 0) as without_record,
        sum(record_count) as records
    from people
    group by shard, document_id
),

asked as (
    select distinct shard
    from runs.stages
    where stage = 'text_to_persona'
)

select
    documents.source,
    documents.topic,
    documents.language,
    count(documents.document_id) as documents,
    count(documents.document_id) filter (asked.shard is null) as documents_waiting,
    count(documents.document_id) filter (asked.shard is not null and coalesce(extracted, 0) = 0)
        as documents_without_persona,
    count(documents.document_id) filter (extracted > 0 and in_hub = 0) as documents_not_in_hub,
    coalesce(sum(documents.char_count), 0)::bigint as char_count,
    coalesce(sum(extracted), 0)::bigint as personas_extracted,
    coalesce(sum(made - extracted), 0)::bigint as personas_related,
    coalesce(sum(in_hub), 0)::bigint as personas_in_hub,
    coalesce(sum(without_record), 0)::bigint as personas_without_record,
    coalesce(sum(by_document.records), 0)::bigint as records,
    round(coalesce(sum(in_hub), 0) / nullif(count(documents.document_id), 0), 3) as personas_per_document,
    round(sum(by_document.records) / nullif(sum(in_hub), 0), 3) as records_per_persona,
    round(count(documents.document_id) / nullif(sum(count(documents.document_id)) over (), 0), 4)
        as documents_ratio,
    round(coalesce(sum(in_hub), 0) / nullif(sum(sum(in_hub)) over (), 0), 4) as hub_ratio
from corpus.documents
full join by_document
    on documents.shard = by_document.shard and documents.document_id = by_document.document_id
left join asked on documents.shard = asked.shard
group by documents.source, documents.topic, documents.language
order by documents.source nulls last, documents.topic nulls last, documents.language nulls last
