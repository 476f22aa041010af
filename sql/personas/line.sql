-- One row per candidate that may decide about these shards: theirs that are like another one, and the
-- earlier ones that these are like. is_removed: of another shard, and that one lost it.
-- Semi-joins on narrow columns: with a union of conditions, this takes twice as long.
-- reads: personas.fingerprints, personas.pairs, personas.duplicates, corpus.shards   params: $shards
with new as (
    select set_key, text_key
    from personas.fingerprints
    where shard in (select unnest($shards))
),

links as (
    select layer, first_key, second_key
    from personas.pairs
    where layer != 'semantic' and first_key in (select set_key from new)
    union all
    select layer, first_key, second_key
    from personas.pairs
    where layer != 'semantic' and second_key in (select set_key from new)
    union all
    select layer, first_key, second_key
    from personas.pairs
    where layer = 'semantic' and first_key in (select text_key from new)
    union all
    select layer, first_key, second_key
    from personas.pairs
    where layer = 'semantic' and second_key in (select text_key from new)
),

near_sets as (
    select first_key as set_key from links where layer != 'semantic'
    union
    select second_key from links where layer != 'semantic'
    union
    select set_key
    from personas.fingerprints
    where set_key in (select set_key from new)
    group by set_key
    having count(*) > 1
),

near_texts as (
    select first_key as text_key from links where layer = 'semantic'
    union
    select second_key from links where layer = 'semantic'
),

near as (
    select shard, persona_id, quality, sequence_key, set_key, text_key
    from personas.fingerprints
    where set_key in (select set_key from near_sets)
    union
    select shard, persona_id, quality, sequence_key, set_key, text_key
    from personas.fingerprints
    where text_key in (select text_key from near_texts)
)

select
    near.*,
    shards.shard_number,
    near.shard not in (select unnest($shards))
    and near.persona_id in (select persona_id from personas.duplicates) as is_removed
from near
inner join corpus.shards using (shard)
