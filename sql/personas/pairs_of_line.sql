-- One row per pair that may decide about these shards.
-- reads: personas.pairs, personas.fingerprints   params: $shards
with new as (
    select set_key, text_key
    from personas.fingerprints
    where shard in (select unnest($shards))
)

select distinct layer, first_key, second_key, similarity, fuzzy_score
from personas.pairs
where
    if(
        layer = 'semantic',
        first_key in (select text_key from new) or second_key in (select text_key from new),
        first_key in (select set_key from new) or second_key in (select set_key from new)
    )
