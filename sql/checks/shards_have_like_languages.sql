-- One row per shard whose documents are in other languages than the rest of its source.
-- distance_ratio: share of its documents that would have to change their language. A few documents are not
-- judged.
-- reads: corpus.documents   params: $far, $min_count
with counted as (
    select
        source,
        shard,
        coalesce(lower(nullif(regexp_extract(language, '^[^-_]+'), '')), 'unknown') as language,
        count(*) as row_count
    from corpus.documents
    group by all
),

of_shards as (
    select source, shard, sum(row_count) as row_count, arg_max(language, row_count) as language
    from counted
    group by source, shard
),

of_languages as (
    select source, language, sum(row_count) as row_count
    from counted
    group by source, language
),

of_sources as (
    select source, sum(row_count) as row_count
    from counted
    group by source
),

shares as (
    select
        of_shards.source,
        of_shards.shard,
        coalesce(counted.row_count, 0) / of_shards.row_count as ratio,
        (of_languages.row_count - coalesce(counted.row_count, 0))
        / (of_sources.row_count - of_shards.row_count) as ratio_elsewhere
    from of_shards
    inner join of_languages using (source)
    inner join of_sources using (source)
    left join counted
        on
            of_shards.shard = counted.shard
            and of_shards.source = counted.source
            and of_languages.language = counted.language
    where
        of_shards.row_count >= $min_count
        and of_sources.row_count - of_shards.row_count >= $min_count
),

distances as (
    select source, shard, sum(abs(ratio - ratio_elsewhere)) / 2 as distance_ratio
    from shares
    group by source, shard
)

select
    distances.source,
    distances.shard,
    of_shards.language as most_frequent_language,
    of_shards.row_count as document_count,
    distances.distance_ratio
from distances
inner join of_shards using (source, shard)
where distances.distance_ratio > $far
order by distances.distance_ratio desc, distances.shard
