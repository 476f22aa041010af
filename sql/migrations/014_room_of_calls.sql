-- The room for thoughts that a call had is one of its parameters.
create or replace macro llm.room_of(params) as (
    coalesce(try_cast(regexp_extract(params, '"reasoning_tokens": (\d+)', 1) as bigint), 0)
);
