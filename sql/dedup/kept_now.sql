-- One row per undecided row of the table that is like no undecided one before it: it is kept.
-- Only the first of a word set can be, and only firsts can be in another's way.
-- reads: undecided, links, exact_keys   params: none
with first_of_set as (
    select set_key, min(place) as place from undecided group by set_key
),

first_of_text as (
    select text_key, min(place) as place from undecided group by text_key
),

first_of_key as (
    select exact_keys.key, min(undecided.place) as place
    from undecided
    inner join exact_keys using (place)
    group by exact_keys.key
),

before_set as (
    select links.to_key as set_key, min(first_of_set.place) as place
    from first_of_set
    inner join links on not links.is_text and first_of_set.set_key = links.from_key
    group by links.to_key
),

before_text as (
    select links.to_key as text_key, min(first_of_text.place) as place
    from first_of_text
    inner join links on links.is_text and first_of_text.text_key = links.from_key
    group by links.to_key
),

after_key as (
    select exact_keys.place
    from first_of_key
    inner join exact_keys using (key)
    where exact_keys.place > first_of_key.place
)

select undecided.place, undecided.set_key, undecided.text_key
from undecided
inner join first_of_set using (set_key, place)
left join before_set using (set_key)
left join before_text using (text_key)
where
    coalesce(before_set.place > undecided.place, true)
    and coalesce(before_text.place > undecided.place, true)
    and undecided.place not in (select place from after_key)
