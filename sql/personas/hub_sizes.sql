-- One row per shard that has personas in the hub: how many.
-- reads: personas.hub
select shard, count(*) as persona_count
from personas.hub
group by shard
order by shard
