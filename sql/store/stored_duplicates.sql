-- One row per record of a domain that is removed as a duplicate.
-- reads: synthetic.duplicates   params: $domain
select shard, record_id, kept_id, layer, similarity, threshold
from synthetic.duplicates
where domain = $domain
