-- One row per pair of personas that share a key and whose sizes allow the similarity.
-- reads: keys   params: $min_similarity
-- The larger set probes for the smaller; between equal sizes, the later probes for the earlier.
select distinct
    least(probe.priority, found.priority) as earlier,
    greatest(probe.priority, found.priority) as later
from keys as probe
inner join keys as found on probe.combination_key = found.combination_key
where
    probe.is_probe
    and not found.is_probe
    and found.size >= $min_similarity * probe.size - 1e-9
    and (
        found.size < probe.size
        or (found.size = probe.size and found.priority < probe.priority)
    )
