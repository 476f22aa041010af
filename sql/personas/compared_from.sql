-- One row: the similarities from which on every compared shard holds its pairs; null: no shard knows.
-- reads: runs.compared
select max(min_jaccard) as min_jaccard, max(min_cosine) as min_cosine
from runs.compared
