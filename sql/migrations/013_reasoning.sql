-- The thoughts of a model were deleted from its answer, and are kept now.
alter table llm.calls add column if not exists reasoning varchar;
-- Vectors with null or NaN were taken for answers. They are failed calls, so that they are asked again.
-- Four bytes are a number, whose exponent of ones means NaN or infinity.
create or replace macro llm.is_broken_vector(stage, status, response) as (
    stage = 'embeddings' and status = 'ok' and coalesce(regexp_matches(
        hex(try(from_base64(json_extract_string(response, '$.embedding')))),
        '^(?:[0-9A-F]{8})*[0-9A-F]{4}[89A-F][0-9A-F][7F]F'
    ), false)
);
update llm.calls set
    status = 'failed', error = 'the vector holds null, NaN or infinity: it is asked again'
where llm.is_broken_vector(stage, status, response);
delete from personas.embeddings
where len(list_filter(embedding, lambda number: not isfinite(number))) > 0;
