-- One row per domain: how many records it has of these shards.
-- reads: synthetic.records   params: $shards
select domain, count(*) as record_count
from synthetic.records
where shard in (select unnest($shards))
group by domain
order by domain
