-- One row per record that its domain has more than once.
-- reads: synthetic.accepted   params: none
select
    domain,
    record_id,
    count(*) as row_count,
    min(shard) as first_shard,
    max(shard) as last_shard
from synthetic.accepted
group by domain, record_id
having count(*) > 1
order by domain, record_id
