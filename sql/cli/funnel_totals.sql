-- One row per stage, over the shards of a run.
-- reads: marts.funnel   params: $shards
select
    stage,
    sum(rows_in)::bigint as rows_in,
    sum(rows_kept)::bigint as rows_kept,
    sum(rows_rejected)::bigint as rows_rejected,
    sum(rows_duplicate)::bigint as rows_duplicate,
    sum(rows_failed)::bigint as rows_failed,
    bool_and(is_balanced) as is_balanced
from marts.funnel
where list_contains($shards, shard)
group by stage
order by
    list_position(['corpus', 'text_to_persona', 'persona_to_persona', 'quality_rules', 'deduplication'], stage) nulls last,
    stage
