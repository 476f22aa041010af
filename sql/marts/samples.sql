-- One row per sampled record, five of each domain. The sample stays the same until the records change.
-- reads: marts.lineage
select domain, record_id, text, variant, persona, hop, url, shard, run_id, created_at
from marts.lineage
qualify row_number() over (partition by domain order by hash(record_id), record_id) <= 5
order by domain, record_id
