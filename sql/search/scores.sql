-- One row per text of a collection ('personas' of the hub, or 'records') with a word of the query: its score.
-- BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", section 3) with
-- k1 = 1.2 and b = 0.75, which are in the ranges given there. The length of a text is in bytes, which is as good
-- a unit as words and is known without splitting. The 1 that is added in the logarithm keeps the scores of
-- frequent words above 0.
-- Words are compared whole, in lower case and without accents. In scripts without spaces (Chinese, Japanese,
-- Thai, ...) a phrase is one word, and it matches anywhere in the text.
-- There is no index: all texts are scanned for the words, and only these places are checked for whole words.
-- reads: personas.hub, synthetic.records   params: $collection, $query
with words as (
    select distinct
        unnest(
            regexp_extract_all(
                regexp_replace(
                    strip_accents(lower($query)),
                    '([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ーｰ]+)',
                    ' \1 ',
                    'g'
                ),
                '[\p{L}\p{M}\p{N}_]+'
            )
        ) as word
),

texts as (
    select persona_id as text_id, shard, persona as written
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
),

folded as (
    select text_id, shard, strlen(written) as size, strip_accents(lower(written)) as readable
    from texts
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
