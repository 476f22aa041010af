-- One row: all answers in the store for the shards of a run.
-- reads: marts.cost   params: $shards
select
    coalesce(sum(calls), 0)::bigint as calls,
    coalesce(sum(tokens_in), 0)::bigint as tokens_in,
    coalesce(sum(tokens_out), 0)::bigint as tokens_out,
    case when count(cost_usd) = count(*) then coalesce(sum(cost_usd), 0) end as cost_usd
from marts.cost
where list_contains($shards, shard)
