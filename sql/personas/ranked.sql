-- One row per candidate that the decisions about these shards need.
-- These are candidates of these shards that have a pair, and kept ones of earlier shards that they are paired
-- with. A candidate with pairs in both layers comes twice: removing these rows here takes half as long again.
-- Semi-joins on narrow columns take half as long as a union of conditions.
-- reads: personas.fingerprints, personas.duplicates, ranked_pairs (a frame)
-- params: $shards
with new as (
    select set_key
    from personas.fingerprints
    where shard in (select unnest($shards))
),

near_sets as (
    select first_key as set_key from ranked_pairs where layer != 'semantic'
    union
    select second_key from ranked_pairs where layer != 'semantic'
    union
    select set_key
    from personas.fingerprints
    where is_repeated is distinct from false and set_key in (select set_key from new)
),

near_texts as (
    select first_key as text_key from ranked_pairs where layer = 'semantic'
    union
    select second_key from ranked_pairs where layer = 'semantic'
),

near as (
    select shard, persona_id, quality, sequence_key, set_key, text_key
    from personas.fingerprints
    where set_key in (select set_key from near_sets)
    union all
    select shard, persona_id, quality, sequence_key, set_key, text_key
    from personas.fingerprints
    where text_key in (select text_key from near_texts)
)

select *
from near
where near.shard in (select unnest($shards))
union all
select *
from near
where
    near.shard not in (select unnest($shards))
    and near.persona_id not in (select persona_id from personas.duplicates)
