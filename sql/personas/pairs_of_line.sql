-- One row per pair that may decide about these shards.
-- Semi-joins on one key each: with conditions joined by "or", this takes twice as long.
-- reads: personas.pairs, personas.fingerprints   params: $shards
with new_sets as (
    select set_key
    from personas.fingerprints
    where shard in (select unnest($shards))
),

new_texts as (
    select text_key
    from personas.fingerprints
    where
        shard in (select unnest($shards))
        and exists (select 1 from personas.pairs where layer = 'semantic')
)

select layer, first_key, second_key, similarity, fuzzy_score
from personas.pairs
where layer != 'semantic' and first_key in (select set_key from new_sets)
union
select layer, first_key, second_key, similarity, fuzzy_score
from personas.pairs
where layer != 'semantic' and second_key in (select set_key from new_sets)
union
select layer, first_key, second_key, similarity, fuzzy_score
from personas.pairs
where layer = 'semantic' and first_key in (select text_key from new_texts)
union
select layer, first_key, second_key, similarity, fuzzy_score
from personas.pairs
where layer = 'semantic' and second_key in (select text_key from new_texts)
