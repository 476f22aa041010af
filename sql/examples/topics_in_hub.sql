-- Which topics are over- or underrepresented in the hub?
-- One row per topic: its share of the documents, of the hub and of the records. Above 1, its documents give more kept
-- personas than others. reads: marts.coverage
select
    topic,
    sum(documents)::bigint as documents,
    sum(personas_in_hub)::bigint as personas_in_hub,
    sum(records)::bigint as records,
    round(sum(documents_ratio), 3) as documents_ratio,
    round(sum(hub_ratio), 3) as hub_ratio,
    round(sum(records) / nullif(sum(sum(records)) over (), 0), 3) as records_ratio,
    round(
        (sum(personas_in_hub) / nullif(sum(sum(personas_in_hub)) over (), 0))
        / nullif(sum(documents) / sum(sum(documents)) over (), 0),
        2
    ) as representation
from marts.coverage
group by topic
order by representation desc nulls last, topic
