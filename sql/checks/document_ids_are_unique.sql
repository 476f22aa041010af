-- One row per document that is stored more than once. A text of a source belongs to one shard.
-- reads: corpus.documents   params: none
select document_id, count(*) as row_count, min(shard) as first_shard, max(shard) as last_shard
from corpus.documents
group by document_id
having count(*) > 1
order by document_id
