-- One row per domain: word counts of its records, of the $sampled lowest ids.
-- is_warning: too many records have hardly any words. How long is too long depends on the domain.
-- reads: synthetic.records   params: $few_record_words, $most_unusual, $min_count, $sampled
with sample as (
    select domain, text
    from synthetic.records
    qualify row_number() over (partition by domain order by record_id) <= $sampled
),

counted as (
    -- As in sql/quality/text_flags.sql, without its words: scripts without spaces count characters.
    select
        domain,
        len(
            regexp_extract_all(
                text, '[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]|[\p{L}\p{M}\p{N}_]+'
            )
        ) as word_count
    from sample
),

lengths as (
    select
        domain,
        count(*) as row_count,
        median(word_count) as median_words,
        quantile_cont(word_count, 0.95) as p95_words,
        avg((word_count < $few_record_words)::integer) as unusual_ratio
    from counted
    group by domain
)

select
    *,
    row_count >= $min_count and unusual_ratio > $most_unusual as is_warning
from lengths
order by domain
