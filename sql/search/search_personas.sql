-- One row per persona of the hub with a word of the query, the best first, and the root page of its chain.
-- reads: marts.scores, personas.hub, corpus.documents   params: $query
select
    hub.persona_id,
    round(scores.score, 3) as score,
    hub.persona,
    hub.origin,
    hub.hop,
    hub.shard,
    documents.topic,
    documents.title,
    documents.url
from marts.scores('personas', $query) as scores
inner join personas.hub on scores.text_id = hub.persona_id and scores.shard = hub.shard
left join corpus.documents
    on hub.root_document_id = documents.document_id and hub.shard = documents.shard
order by scores.score desc, hub.persona_id
