-- One row per persona whose normalized text an earlier persona has: kept is the earliest of them.
-- reads: normalized, priorities   params: none
with same_text as (
    select
        priorities.priority as later,
        min(priorities.priority) over (partition by normalized.normalized_text) as earlier
    from normalized
    inner join priorities on normalized.persona_id = priorities.persona_id
)

select
    later,
    earlier,
    1.0::double as similarity
from same_text
where earlier < later
