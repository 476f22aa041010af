-- One row per record whose chain does not lead to a URL.
-- reads: marts.lineage   params: none
select shard, domain, record_id, persona_id, document_id
from marts.lineage
where url is null
order by domain, record_id
