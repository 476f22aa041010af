-- One row per distinct word of a persona that is no exact duplicate.
-- reads: normalized, priorities, exact   params: none
select
    priorities.priority,
    unnest(list_distinct(normalized.tokens)) as word
from normalized
inner join priorities on normalized.persona_id = priorities.persona_id
anti join exact on priorities.priority = exact.later
