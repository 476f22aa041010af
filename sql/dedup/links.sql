-- One row per direction of a pair that is similar enough for one of the two to go.
-- similarity is a Jaccard similarity or a cosine; in the layer fuzzy, the score decides.
-- reads: pairs   params: $jaccard, $fuzzy, $fuzzy_from, $cosine (above any similarity: the layer is off)
with decided as (
    select
        layer = 'semantic' as is_text,
        first_key,
        second_key,
        similarity,
        fuzzy_score,
        case
            when layer = 'semantic' then if(similarity >= $cosine, 'semantic', null)
            when similarity >= $jaccard then 'jaccard'
            when similarity >= $fuzzy_from and fuzzy_score >= $fuzzy then 'fuzzy'
        end as layer
    from pairs
)

select is_text, first_key as from_key, second_key as to_key, layer, similarity, fuzzy_score
from decided
where layer is not null
union all
select is_text, second_key, first_key, layer, similarity, fuzzy_score
from decided
where layer is not null
