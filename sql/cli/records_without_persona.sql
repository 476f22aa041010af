-- One row per shard with records of personas that are not in its hub any more: how many.
-- reads: synthetic.records, personas.hub
select records.shard, count(*) as record_count
from synthetic.records
anti join personas.hub using (shard, persona_id)
group by records.shard
order by records.shard
