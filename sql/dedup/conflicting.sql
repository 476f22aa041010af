-- One row per row of the table that is like another one.
-- reads: fingerprints, links, exact_keys   params: none
with shared_sets as (
    select set_key from fingerprints group by set_key having count(*) > 1
    union
    select from_key from links where not is_text
),

shared_texts as (
    select distinct from_key as text_key from links where is_text
)

select place, rank, sequence_key, set_key, text_key
from fingerprints
where
    set_key in (select set_key from shared_sets)
    or text_key in (select text_key from shared_texts)
    or place in (select place from exact_keys)
