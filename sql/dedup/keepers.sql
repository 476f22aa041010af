-- One row per removed row of the table: the most similar of the kept ones before it, by the first layer
-- that has one. Layers: the exact keys in the caller's order, exact, jaccard, fuzzy, semantic.
-- reads: conflicting, kept, removed, links, exact_keys   params: $jaccard, $fuzzy, $cosine
with kept_ones as (
    select conflicting.* from conflicting semi join kept using (place)
),

gone as (
    select conflicting.* from conflicting semi join removed using (place)
),

similar_ones as (
    select
        gone.place,
        kept_ones.place as kept_place,
        if(gone.sequence_key = kept_ones.sequence_key, 'exact', 'jaccard') as layer,
        1.0 as similarity,
        null as fuzzy_score
    from gone
    inner join kept_ones using (set_key)
    union all
    select gone.place, kept_ones.place, links.layer, links.similarity, links.fuzzy_score
    from gone
    inner join links on not links.is_text and gone.set_key = links.from_key
    inner join kept_ones on links.to_key = kept_ones.set_key
    union all
    select gone.place, kept_ones.place, links.layer, links.similarity, links.fuzzy_score
    from gone
    inner join links on links.is_text and gone.text_key = links.from_key
    inner join kept_ones on links.to_key = kept_ones.text_key
),

candidates as (
    select
        *,
        list_position(['exact', 'jaccard', 'fuzzy', 'semantic'], layer) as layer_order
    from similar_ones
    union all
    select gone.place, kept.place, own.layer, 1.0, null, own.layer_order
    from gone
    inner join exact_keys as own on gone.place = own.place
    inner join exact_keys as other on own.key = other.key
    inner join kept on other.place = kept.place
),

ranked as (
    select *
    from candidates
    where kept_place < place
    qualify
        row_number() over (
            partition by place
            order by layer_order, similarity desc, fuzzy_score desc, kept_place
        ) = 1
)

select
    place,
    kept_place,
    layer,
    similarity,
    case
        when layer_order < 1 or layer = 'exact' then 1.0
        when layer = 'jaccard' then $jaccard
        when layer = 'fuzzy' then $fuzzy
        else $cosine
    end::double as threshold,
    fuzzy_score::double as fuzzy_score
from ranked
