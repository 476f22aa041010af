-- One row per undecided persona that is like one that has just been kept.
-- reads: undecided, winners, links   params: none
with beaten_sets as (
    select set_key from winners
    union
    select links.to_key
    from winners
    inner join links on not links.is_text and winners.set_key = links.from_key
),

beaten_texts as (
    select distinct links.to_key as text_key
    from winners
    inner join links on links.is_text and winners.text_key = links.from_key
)

select place
from undecided
where
    set_key in (select set_key from beaten_sets)
    or text_key in (select text_key from beaten_texts)
