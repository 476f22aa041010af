-- One row per other persona with a stored pair or the same words, the most similar first.
-- jaccard, fuzzy_score: of the word sets. cosine: of the embeddings. kept_id: its keeper, null if it is kept.
-- reads: personas.fingerprints, personas.pairs, personas.candidates, personas.duplicates
-- params: $persona_id
with this as (
    select sequence_key, set_key, text_key
    from personas.fingerprints
    where persona_id = $persona_id
    limit 1
),

alike as (
    select
        pairs.layer = 'semantic' as is_text,
        pairs.second_key as key,
        pairs.similarity,
        pairs.fuzzy_score
    from personas.pairs
    inner join this on pairs.first_key = if(pairs.layer = 'semantic', this.text_key, this.set_key)
    union
    select
        pairs.layer = 'semantic' as is_text,
        pairs.first_key as key,
        pairs.similarity,
        pairs.fuzzy_score
    from personas.pairs
    inner join this on pairs.second_key = if(pairs.layer = 'semantic', this.text_key, this.set_key)
),

matches as (
    select
        fingerprints.persona_id,
        fingerprints.sequence_key = this.sequence_key as is_exact,
        1.0::double as jaccard,
        null::double as fuzzy_score,
        null::double as cosine
    from this
    inner join personas.fingerprints using (set_key)
    union all
    select fingerprints.persona_id, false, alike.similarity, alike.fuzzy_score, null
    from alike
    inner join personas.fingerprints on not alike.is_text and alike.key = fingerprints.set_key
    union all
    select fingerprints.persona_id, false, null, null, alike.similarity
    from alike
    inner join personas.fingerprints on alike.is_text and alike.key = fingerprints.text_key
)

select
    matches.persona_id,
    any_value(candidates.persona) as persona,
    bool_or(matches.is_exact) as is_exact,
    max(matches.jaccard) as jaccard,
    max(matches.fuzzy_score) as fuzzy_score,
    max(matches.cosine) as cosine,
    any_value(duplicates.kept_id) as kept_id
from matches
inner join personas.candidates on matches.persona_id = candidates.persona_id
left join personas.duplicates on matches.persona_id = duplicates.persona_id
where matches.persona_id != $persona_id
group by matches.persona_id
order by greatest(max(matches.jaccard), max(matches.cosine)) desc, matches.persona_id
