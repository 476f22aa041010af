-- One row per text and distinct word: what a word is, in SQL. The compiled kernel gives the same words,
-- as hashes; a test compares the two. Runs of a script without spaces give pairs of neighbouring characters.
-- nfc_normalize cuts a text at its first NUL, so NUL becomes what it is to the tokenizer: a gap.
-- reads: texts   params: $spaceless, $ignored
with readable as (
    select
        key,
        regexp_replace(
            lower(nfc_normalize(replace(text, chr(0), ' '))), $ignored, '', 'g'
        ) as readable_text
    from texts
),

spaced as (
    select
        key,
        regexp_replace(readable_text, $spaceless, ' \1 ', 'g') as spaced_text
    from readable
),

runs as (
    select key, unnest(regexp_extract_all(spaced_text, '[\p{L}\p{M}\p{N}_]+')) as run
    from spaced
)

select distinct
    key,
    unnest(
        case
            when length(run) > 1 and regexp_matches(left(run, 1), $spaceless)
                then list_transform(range(1, length(run)), lambda place: substr(run, place, 2))
            else [run]
        end
    ) as word
from runs
