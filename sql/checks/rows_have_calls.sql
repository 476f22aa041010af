-- One row per persona or record without the usable answer that it was made from.
-- is_behind: no call has its key, but a journal on disk may, of a run that is going on or was killed.
-- reads: personas.extracted, personas.related, synthetic.accepted, llm.calls   params: $has_journals
with answered as (
    select shard, 'personas.extracted' as origin, persona_id as id, call_key
    from personas.extracted
    union all
    select shard, 'personas.related', persona_id, call_key from personas.related
    union all
    select shard, 'synthetic.' || domain, record_id, call_key from synthetic.accepted
),

usable as (
    select call_key from llm.calls where status = 'ok'
)

select
    shard,
    origin,
    id,
    call_key,
    $has_journals and call_key not in (select call_key from llm.calls) as is_behind
from answered
anti join usable using (call_key)
order by is_behind, shard, origin, id
