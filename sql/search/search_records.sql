-- One row per kept record with a word of the query, the best first, with its persona.
-- The page is known for personas that are still in the hub. marts.lineage has it for every record.
-- reads: marts.scores, synthetic.records, personas.hub, corpus.documents   params: $query
select
    records.record_id,
    round(scores.score, 3) as score,
    records.domain,
    records.text,
    records.persona_id,
    hub.persona,
    records.shard,
    documents.topic,
    documents.title,
    documents.url
from marts.scores('records', $query) as scores
inner join synthetic.records
    on scores.text_id = records.record_id and scores.shard = records.shard
left join personas.hub on records.persona_id = hub.persona_id and records.shard = hub.shard
left join corpus.documents
    on hub.root_document_id = documents.document_id and hub.shard = documents.shard
order by scores.score desc, records.record_id
