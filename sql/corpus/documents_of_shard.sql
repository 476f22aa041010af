-- One row per accepted document of a shard.
-- reads: corpus.documents   params: $shard
select document_id, title, text
from corpus.documents
where shard = $shard
order by document_id
