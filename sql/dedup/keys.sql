-- One row per word combination by which a persona looks for others (probe) or is found (index).
-- reads: word_sets, combinations   params: none
-- A collision of the hash only adds a candidate pair, which the true similarity turns away.
select
    word_sets.priority,
    word_sets.size,
    combinations.is_probe,
    hash(
        combinations.level, list_select(word_sets.word_ranks, combinations.positions)
    ) as combination_key
from word_sets
inner join combinations on word_sets.size = combinations.size
