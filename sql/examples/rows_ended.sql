-- Where did every row end, over all shards?
-- One row per stage: rows in = kept + rejected + duplicates + failed. reads: marts.funnel
select
    stage,
    sum(rows_in)::bigint as rows_in,
    sum(rows_kept)::bigint as rows_kept,
    sum(rows_rejected)::bigint as rows_rejected,
    sum(rows_duplicate)::bigint as rows_duplicate,
    sum(rows_failed)::bigint as rows_failed,
    round(sum(rows_kept) / nullif(sum(rows_in), 0), 3) as kept_ratio,
    bool_and(is_balanced) as is_balanced,
    bool_and(is_current) as is_current
from marts.funnel
group by stage
order by
    list_position(['corpus', 'text_to_persona', 'persona_to_persona', 'quality_rules', 'deduplication'], stage) nulls last,
    stage
