-- One row per stage and reason: the share of the stage's rows that were rejected, over all shards.
-- Duplicates are left out, as their number is the user's choice. A few rows are not judged.
-- reads: runs.stages, corpus.rejected, personas.rejected, synthetic.rejected
-- params: $most_rejected, $min_count
with turned_away as (
    select 'corpus' as stage, reason from corpus.rejected
    union all
    select stage, reason from personas.rejected
    union all
    select 'synthetic.' || domain, reason from synthetic.rejected
),

offered as (
    select stage, sum(rows_in) as rows_in
    from runs.stages
    group by stage
    having sum(rows_in) >= $min_count
)

select
    stage,
    reason,
    count(*) as rows_rejected,
    count(*) / any_value(offered.rows_in) as rejected_ratio,
    count(*) / any_value(offered.rows_in) > $most_rejected as is_warning
from turned_away
inner join offered using (stage)
group by stage, reason
order by rejected_ratio desc, stage, reason
