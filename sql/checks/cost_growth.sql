-- One row per domain: the cost of a record in the last run that bought some, beside earlier runs.
-- The cost of a run is divided by its records that still exist. Runs with an unknown price or without records
-- are left out. growth_ratio is null if there is no earlier run, or if it was free.
-- reads: llm.calls, synthetic.records   params: $most_growth
with kept as (
    select call_key, count(*) as kept_rows
    from synthetic.records
    group by call_key
),

paid as (
    select
        split_part(calls.stage, '.', 2) as domain,
        calls.run_id,
        sum(calls.cost_usd) / sum(kept.kept_rows) as usd_per_record,
        row_number() over (
            partition by calls.stage order by max(calls.created_at) desc, calls.run_id
        ) as place
    from llm.calls
    left join kept using (call_key)
    where calls.stage like 'synthetic.%'
    group by calls.stage, calls.run_id
    having count(calls.cost_usd) = count(*) and sum(kept.kept_rows) > 0
),

compared as (
    select
        domain,
        count(*) as run_count,
        max(usd_per_record) filter (place = 1) as usd_per_record,
        median(usd_per_record) filter (place > 1) as usd_per_record_before
    from paid
    group by domain
)

select
    domain,
    run_count,
    usd_per_record,
    usd_per_record_before,
    usd_per_record / nullif(usd_per_record_before, 0) as growth_ratio,
    coalesce(usd_per_record / nullif(usd_per_record_before, 0) > $most_growth, false)
        as is_warning
from compared
order by growth_ratio desc nulls last, domain
