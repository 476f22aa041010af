-- How has the price of a kept record developed from run to run?
-- One row per run that bought something: its cost in all stages, the records kept of its own answers, and the price
-- of a record over all runs up to it. Empty if a price is unknown. reads: llm.calls, synthetic.records
with bought as (
    select
        calls.run_id,
        min(calls.created_at) as started_at,
        count(*) as calls,
        case when count(calls.cost_usd) = count(*) then sum(calls.cost_usd) end as cost_usd
    from llm.calls
    group by calls.run_id
),

kept as (
    select calls.run_id, count(*) as record_count
    from synthetic.records
    inner join llm.calls on records.call_key = calls.call_key
    group by calls.run_id
)

select
    bought.run_id,
    bought.started_at,
    bought.calls,
    bought.cost_usd,
    coalesce(kept.record_count, 0) as records,
    bought.cost_usd / kept.record_count as usd_per_record,
    case when count(bought.cost_usd) over so_far = count(*) over so_far
        then sum(bought.cost_usd) over so_far / nullif(sum(kept.record_count) over so_far, 0)
    end as usd_per_record_so_far
from bought
left join kept on bought.run_id = kept.run_id
window so_far as (order by bought.started_at, bought.run_id)
order by bought.started_at, bought.run_id
