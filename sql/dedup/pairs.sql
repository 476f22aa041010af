-- One row per pair of personas whose word sets have a Jaccard similarity of at least the threshold.
-- reads: candidate_pairs, word_sets   params: $min_similarity
with counted as (
    select
        candidate_pairs.earlier,
        candidate_pairs.later,
        len(list_intersect(earlier_set.word_ranks, later_set.word_ranks)) as shared_count,
        earlier_set.size + later_set.size as total_count
    from candidate_pairs
    inner join word_sets as earlier_set on candidate_pairs.earlier = earlier_set.priority
    inner join word_sets as later_set on candidate_pairs.later = later_set.priority
),

scored as (
    select
        earlier,
        later,
        shared_count / (total_count - shared_count) as similarity
    from counted
)

select
    earlier,
    later,
    similarity
from scored
where similarity >= $min_similarity
