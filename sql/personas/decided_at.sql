-- One row per combination of thresholds that shards were decided with.
-- reads: runs.resolved
select distinct jaccard_threshold as jaccard, cosine_threshold as cosine, fuzzy_threshold as fuzzy
from runs.resolved
where jaccard_threshold is not null
order by all
