-- One row per removed persona: the most similar of the kept personas that come before it.
-- reads: pairs, removed   params: none
select
    pairs.later,
    pairs.earlier,
    pairs.similarity
from pairs
semi join removed on pairs.later = removed.later
anti join removed as removed_earlier on pairs.earlier = removed_earlier.later
qualify
    row_number() over (partition by pairs.later order by pairs.similarity desc, pairs.earlier) = 1
