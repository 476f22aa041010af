-- One row per text, with a column per flaw of its form that holds the offending words.
-- reads: texts (id, text; registered)   params: $ngram, $times
with tokens as (
    select
        id,
        text,
        -- Chinese, Japanese and Thai write no spaces: there, a character counts as a word.
        regexp_extract_all(
            lower(text), '[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]|[\p{L}\p{M}\p{N}_]+'
        ) as words
    from texts
),

ngrams as (
    select
        id,
        list_transform(
            range(1, greatest(len(words) - $ngram + 2, 1)),
            lambda i: array_to_string(list_slice(words, i, i + $ngram - 1), ' ')
        ) as grams
    from tokens
),

repeated as (
    select id, gram, count(*) as times
    from (select id, unnest(grams) as gram from ngrams)
    group by id, gram
    having count(*) >= $times
    qualify row_number() over (partition by id order by times desc, gram) = 1
)

select
    tokens.id,
    len(tokens.words) as word_count,
    regexp_extract(
        tokens.text,
        '(?i)^\W*(i|i''m|i''ve|my|me|we|our)\b'
    ) as first_person,
    regexp_extract(
        tokens.text,
        -- 'A film about...' is no person, 'A film projectionist...' is one.
        '(?i)^\W*((?:(?:the|this|that)\s+(?:text|article|document|page|passage|content|book|film|'
        || 'song|summary|title|topic)s?\b|an?\s+(?:text|article|document|page|passage|book|film|'
        || 'song|summary|title|topic)\s+(?:is|that|which|about|of|on|by|for|from))\b|people\b|students\b|readers\b|anyone\b|everyone\b|'
        || 'those who\b|individuals\b|n/?a\b|none\b|unknown\b)'
    ) as not_a_person,
    regexp_extract(
        tokens.text,
        '(?i)(as an ai\b|language model|</?document|system prompt|json (?:object|key|format)|previous instructions|'
        || 'the (?:given|provided|above) (?:text|document|persona)|the persona\b|this persona\b|'
        || 'one or two sentences|likely to (?:read|write|like|dislike) (?:the|this) (?:text|page|'
        || 'document)|here is (?:a|the) (?:persona|record|problem)|\[insert\b|lorem ipsum)'
    ) as leaked_instruction,
    coalesce(repeated.gram, '') as repeated_ngram
from tokens
left join repeated using (id)
order by tokens.id
