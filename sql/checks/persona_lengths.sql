-- One row: word counts of the hub's personas. No row while the hub is empty.
-- is_warning: too many personas are so short that they are vague, or so long that they are stories. A few
-- personas are not judged.
-- reads: personas.hub, personas.candidates   params: $few_words, $many_words, $most_unusual, $min_count
with lengths as (
    select
        count(*) as row_count,
        median(candidates.word_count) as median_words,
        quantile_cont(candidates.word_count, 0.95) as p95_words,
        avg((candidates.word_count not between $few_words and $many_words)::integer)
            as unusual_ratio
    from personas.candidates
    semi join personas.hub using (shard, persona_id)
)

select
    'personas.hub' as rows_of,
    *,
    row_count >= $min_count and unusual_ratio > $most_unusual as is_warning
from lengths
where row_count > 0
