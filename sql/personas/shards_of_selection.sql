-- One row per shard that a selection of this name has rows of.
-- reads: personas.selections   params: $name
select distinct shard
from personas.selections
where name = $name
order by shard
