-- One row per text of a collection ('personas' of the hub, or 'records') with a word of the query: its score.
-- BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", section 3) with
-- k1 = 1.2 and b = 0.75, which are in the ranges given there. The length of a text is in bytes, which is as good
-- a unit as words and is known without splitting. The 1 that is added in the logarithm keeps the scores of
-- frequent words above 0.
-- Words are compared whole, in lower case, and without accents on Latin letters. Elsewhere a mark makes another
-- letter (Hindi vowel signs, Japanese voicing marks, Thai tones, the short i of Russian), so it stays. In scripts without spaces (Chinese, Japanese,
-- Thai, ...) a phrase is one word, and it matches anywhere in the text.
-- There is no index: all texts are scanned for the words, and only these places are checked for whole words.
-- reads: personas.hub, synthetic.records   params: $collection, $query
with texts as (
    -- The query comes first; it has no id.
    select null as text_id, null as shard, $query as written
    union all
    select persona_id, shard, persona
    from personas.hub
    where $collection = 'personas'
    union all
    select record_id, shard, text
    from synthetic.records
    where $collection = 'records'
),

totals as (
    select count(*) as text_count, avg(strlen(written)) as mean_size
    from texts
    where text_id is not null
),

lowered as (
    select text_id, shard, strlen(written) as size, nfc_normalize(lower(written)) as readable
    from texts
),

folded as (
    -- Nearly all texts are of one script. The others are folded piece by piece, which takes 13 microseconds.
    select
        * exclude (readable),
        case
            when strlen(readable) = length(readable) then readable
            when not regexp_matches(readable, '\p{Latin}') then readable
            when not regexp_matches(readable, '[^\p{Latin}\p{Common}\p{Inherited}]')
                then strip_accents(readable)
            else array_to_string(
                list_transform(
                    regexp_extract_all(readable, '(?:\p{Latin}\p{M}*)+|[^\p{Latin}]+'),
                    lambda piece: if(regexp_matches(piece, '^\p{Latin}'), strip_accents(piece), piece)
                ),
                ''
            )
        end as readable
    from lowered
),

words as (
    select distinct
        unnest(
            regexp_extract_all(
                regexp_replace(
                    readable,
                    '([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ーｰ]+)',
                    ' \1 ',
                    'g'
                ),
                '[\p{L}\p{M}\p{N}_]+'
            )
        ) as word
    from folded
    where text_id is null
),

split as (
    select
        folded.text_id,
        folded.shard,
        folded.size,
        words.word,
        string_split(folded.readable, words.word) as around
    from folded
    inner join words on contains(folded.readable, words.word)
    where folded.text_id is not null
),

pieces as (
    -- An empty piece between two is the word beside itself: the s of "boss".
    select
        text_id,
        shard,
        size,
        word,
        list_transform(
            around,
            lambda piece, place: if(piece = '' and place > 1 and place < len(around), word, piece)
        ) as around
    from split
),

places as (
    select
        text_id,
        shard,
        size,
        word,
        unnest(around[:-2]) as before,
        unnest(around[2:]) as after
    from pieces
),

counted as (
    select text_id, shard, word, any_value(size) as size, count(*) as times
    from places
    where
        -- Beside a whole word stands no letter, digit or underscore, but it may be a letter of those scripts.
        not regexp_matches(
            right(before, 1) || ' ' || left(after, 1),
            '[^\P{L}\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ーｰ]|[\p{M}\p{N}_]'
        )
        or regexp_matches(
            word, '[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ーｰ]'
        )
    group by text_id, shard, word
),

weights as (
    select
        counted.word,
        ln(1 + (any_value(totals.text_count) - count(*) + 0.5) / (count(*) + 0.5)) as weight
    from counted
    cross join totals
    group by counted.word
)

select
    counted.shard,
    counted.text_id,
    sum(
        weights.weight * counted.times * (1.2 + 1)
        / (counted.times + 1.2 * (1 - 0.75 + 0.75 * counted.size / totals.mean_size))
    ) as score
from counted
inner join weights on counted.word = weights.word
cross join totals
group by counted.shard, counted.text_id
