-- One row per candidate: its words in order, and the text that exact duplicates have in common.
-- reads: candidates   params: none
-- The tokenizer lives here and nowhere else; dedup/tokenizer.py carries its version.
-- nfc_normalize cuts a text at its first NUL, so NUL becomes what it is to the tokenizer: a gap.
with composed as (
    select
        persona_id,
        shard_number,
        persona,
        nfc_normalize(replace(persona, chr(0), ' ')) as composed_text
    from candidates
),

tokenized as (
    select
        persona_id,
        shard_number,
        persona,
        regexp_extract_all(
            nfc_normalize(lower(composed_text)), '[\p{L}\p{M}\p{N}_]+'
        ) as tokens
    from composed
)

select
    persona_id,
    shard_number,
    tokens,
    case when len(tokens) = 0 then persona else array_to_string(tokens, ' ') end as normalized_text
from tokenized
