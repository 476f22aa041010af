-- One row per undecided row of the table that is like one that has just been kept.
-- reads: undecided, kept_now, links, exact_keys   params: none
with dominated_sets as (
    select set_key from kept_now
    union
    select links.to_key
    from kept_now
    inner join links on not links.is_text and kept_now.set_key = links.from_key
),

dominated_texts as (
    select distinct links.to_key as text_key
    from kept_now
    inner join links on links.is_text and kept_now.text_key = links.from_key
),

dominated_keys as (
    select distinct exact_keys.key from kept_now inner join exact_keys using (place)
)

select place
from undecided
where
    set_key in (select set_key from dominated_sets)
    or text_key in (select text_key from dominated_texts)
    or place in (select place from exact_keys where key in (select key from dominated_keys))
