-- One row per pair that the decisions about these shards need, and per shard that holds it.
-- A "distinct" here takes twice as long as one outside.
-- reads: personas.pairs, personas.fingerprints   params: $shards
with new as (
    select set_key, text_key
    from personas.fingerprints
    where shard in (select unnest($shards))
)

select layer, first_key, second_key, similarity, fuzzy_score
from personas.pairs
where
    layer != 'semantic'
    and (first_key in (select set_key from new) or second_key in (select set_key from new))
union all
select layer, first_key, second_key, similarity, fuzzy_score
from personas.pairs
where
    layer = 'semantic'
    and (first_key in (select text_key from new) or second_key in (select text_key from new))
