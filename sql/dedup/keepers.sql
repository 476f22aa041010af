-- One row per removed persona: the most similar of the kept ones before it, by the first layer that finds one.
-- reads: conflicting, kept, removed, links   params: $jaccard, $fuzzy, $cosine
with kept_ones as (
    select conflicting.* from conflicting semi join kept using (place)
),

gone as (
    select conflicting.* from conflicting semi join removed using (place)
),

found as (
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

ranked as (
    select
        *,
        list_position(['exact', 'jaccard', 'fuzzy', 'semantic'], layer) as layer_rank
    from found
    where kept_place < place
    qualify
        row_number() over (
            partition by place
            order by layer_rank, similarity desc, fuzzy_score desc, kept_place
        ) = 1
)

select
    place,
    kept_place,
    layer,
    similarity,
    case layer
        when 'exact' then 1.0
        when 'jaccard' then $jaccard
        when 'fuzzy' then $fuzzy
        else $cosine
    end::double as threshold,
    fuzzy_score::double as fuzzy_score
from ranked
