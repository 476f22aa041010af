-- One row per shard of these that has candidates.
-- reads: personas.candidates   params: $shards
select shard, count(*) as candidate_count
from personas.candidates
where shard in (select unnest($shards))
group by shard
