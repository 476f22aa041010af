-- One row per pair of similar word sets (layer jaccard) or texts (layer semantic).
-- The persona that comes first in rank stands for each side, and first_* comes before second_*.
-- is_duplicate: one of the two was removed, because of the other or of a third persona.
-- reads: personas.pairs, personas.fingerprints, personas.candidates, personas.duplicates, corpus.shards
with pairs as (
    select distinct
        layer = 'semantic' as is_text,
        layer,
        first_key,
        second_key,
        similarity,
        fuzzy_score
    from personas.pairs
),

sides as (
    select is_text, first_key as key from pairs
    union
    select is_text, second_key from pairs
),

ranked as (
    select
        candidates.persona_id,
        candidates.persona,
        fingerprints.set_key,
        fingerprints.text_key,
        row_number() over (
            order by
                shards.shard_number,
                fingerprints.quality desc,
                fingerprints.text_key,
                candidates.persona_id
        ) as place
    from personas.fingerprints
    inner join personas.candidates using (shard, persona_id)
    inner join corpus.shards using (shard)
),

keys as (
    select false as is_text, set_key as key, * from ranked
    union all
    select true, text_key, * from ranked
),

firsts as (
    select keys.is_text, keys.key, keys.place, keys.persona_id, keys.persona
    from keys
    semi join sides using (is_text, key)
    qualify row_number() over (partition by keys.is_text, keys.key order by keys.place) = 1
),

named as (
    select
        pairs.layer,
        pairs.similarity,
        pairs.fuzzy_score,
        if(one.place < other.place, one.persona_id, other.persona_id) as first_persona_id,
        if(one.place < other.place, other.persona_id, one.persona_id) as second_persona_id,
        if(one.place < other.place, one.persona, other.persona) as first_persona,
        if(one.place < other.place, other.persona, one.persona) as second_persona
    from pairs
    inner join firsts as one on pairs.is_text = one.is_text and pairs.first_key = one.key
    inner join firsts as other on pairs.is_text = other.is_text and pairs.second_key = other.key
)

select
    first_persona_id,
    second_persona_id,
    layer,
    similarity,
    fuzzy_score,
    first_persona,
    second_persona,
    first_persona_id in (select persona_id from personas.duplicates)
    or second_persona_id in (select persona_id from personas.duplicates) as is_duplicate
from named
order by similarity desc, layer, first_persona_id, second_persona_id
