-- One row per shard whose hub a selection was made from: what it was then, and the rules.
-- reads: runs.selected   params: $name
select shard, hub_version, rules
from runs.selected
where name = $name
order by shard
