-- Which personas of the hub have no record, and which domains rejected their answers?
-- One row per persona. Without a domain, no record was asked for: records_per_shard limits them.
-- reads: personas.hub, synthetic.records, synthetic.rejected, corpus.documents
with refusals as (
    select
        persona_id,
        list(distinct domain || ': ' || reason order by domain || ': ' || reason) as turned_away
    from synthetic.rejected
    group by persona_id
)

select
    hub.persona,
    coalesce(refusals.turned_away, []) as turned_away,
    hub.origin,
    documents.topic,
    documents.url,
    hub.shard,
    hub.persona_id
from personas.hub
anti join synthetic.records on hub.persona_id = records.persona_id
left join refusals on hub.persona_id = refusals.persona_id
left join corpus.documents
    on hub.root_document_id = documents.document_id and hub.shard = documents.shard
order by len(coalesce(refusals.turned_away, [])) desc, hub.shard, hub.persona_id
