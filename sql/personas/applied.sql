-- One row: the similarities from which on every compared shard holds its pairs, and the Jaccard thresholds that the
-- shards were decided with; null, and none, where no shard knows.
-- reads: runs.compared, runs.resolved
select
    (select max(min_jaccard) from runs.compared) as min_jaccard,
    (select max(min_cosine) from runs.compared) as min_cosine,
    (
        select coalesce(list(distinct jaccard_threshold order by jaccard_threshold), [])
        from runs.resolved
        where jaccard_threshold is not null
    ) as jaccard_thresholds
