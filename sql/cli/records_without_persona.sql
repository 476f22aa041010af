-- One row per shard with records of personas that are not in its hub any more: how many.
-- reads: synthetic.records, personas.hub   params: $shards (others are not looked at)
select records.shard, count(*) as record_count
from synthetic.records
anti join personas.hub using (shard, persona_id)
where records.shard in (select unnest($shards))
group by records.shard
order by records.shard
