-- One row per language: documents that state it, and personas of the hub that come from them.
-- is_warning: personas must be in another language. Only names of two letters are judged.
-- reads: corpus.documents, personas.hub   params: $language
with documents as (
    select
        shard,
        document_id as root_document_id,
        coalesce(lower(nullif(regexp_extract(language, '^[^-_]+'), '')), 'unknown') as language
    from corpus.documents
),

counted as (
    select 'documents' as rows_of, language, count(*) as row_count
    from documents
    group by language
    union all
    select 'personas', documents.language, count(*)
    from personas.hub
    inner join documents using (shard, root_document_id)
    group by documents.language
)

select
    rows_of,
    language,
    row_count,
    row_count / sum(row_count) over (partition by rows_of) as language_ratio,
    coalesce(length(language) = 2 and language != lower($language::varchar), false) as is_warning
from counted
order by rows_of, row_count desc, language
