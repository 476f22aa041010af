-- Why were answers rejected, how often, and what did one of them say?
-- One row per stage and reason, the most frequent first. reads: personas.rejected, synthetic.rejected
with turned_away as (
    select stage, reason, detail, persona as answer, persona_id
    from personas.rejected
    union all
    select 'synthetic.' || domain, reason, detail, answer, persona_id
    from synthetic.rejected
)

select
    stage,
    reason,
    count(*) as answers,
    round(count(*) / sum(count(*)) over (partition by stage), 3) as stage_ratio,
    arg_min(detail, persona_id) as example_detail,
    left(arg_min(answer, persona_id), 200) as example_answer
from turned_away
group by stage, reason
order by answers desc, stage, reason
