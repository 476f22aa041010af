-- One row per topic: its share of all documents and of all personas in the hub, the largest first.
-- reads: marts.coverage   params: none
select
    coalesce(topic, 'no topic') as topic,
    sum(documents_ratio) as documents_ratio,
    coalesce(sum(hub_ratio), 0) as hub_ratio
from marts.coverage
where source is not null
group by all
order by documents_ratio desc, topic
limit 20
