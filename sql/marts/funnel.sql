-- One row per shard and stage: what went in, and where each row ended.
-- is_balanced: no row is lost.
-- is_current: upstream still has as many rows as the stage read, and each input_version that the stage has
-- noted is still the output_version there.
-- reads: runs.stages, corpus.*, personas.*, synthetic.accepted, synthetic.records, synthetic.duplicates,
-- synthetic.rejected
with kept as (
    select shard, 'corpus' as stage, count(*) as rows_kept from corpus.documents group by shard
    union all
    select shard, 'text_to_persona', count(*) from personas.extracted group by shard
    union all
    select shard, 'persona_to_persona', count(*) from personas.related group by shard
    union all
    select shard, 'quality_rules', count(*) from personas.candidates group by shard
    union all
    select shard, 'deduplication', count(*) from personas.hub group by shard
    union all
    select shard, 'synthetic.' || domain, count(*) from synthetic.records group by shard, domain
),

turned_away as (
    select shard, 'corpus' as stage, reason from corpus.rejected
    union all
    select shard, stage, reason from personas.rejected
    union all
    select shard, 'deduplication', 'duplicate' from personas.duplicates
    union all
    select shard, 'synthetic.' || domain, reason from synthetic.rejected
    union all
    select accepted.shard, 'synthetic.' || accepted.domain, 'duplicate'
    from synthetic.accepted
    semi join synthetic.duplicates using (domain, record_id)
),

counts as (
    select
        shard,
        stage,
        count(*) filter (reason not in ('duplicate', 'call_failed')) as rows_rejected,
        count(*) filter (reason = 'duplicate') as rows_duplicate,
        count(*) filter (reason = 'call_failed') as rows_failed
    from turned_away
    group by shard, stage
),

offered as (
    select shard, null::varchar as source, count(*) as persona_count
    from personas.hub
    group by shard
    union all
    select hub.shard, selections.name, count(*)
    from personas.hub
    inner join personas.selections using (shard, persona_id)
    group by hub.shard, selections.name
),

upstream as (
    select shard, 'corpus' as stage, row_count as input_now from corpus.shards
    union all
    select shard, 'text_to_persona', count(*) from corpus.documents group by shard
    union all
    select shard, 'persona_to_persona', count(*) from personas.extracted group by shard
    union all
    select shard, 'quality_rules', count(*)
    from (
        select shard from personas.extracted
        union all
        select shard from personas.related
    )
    group by shard
    union all
    select shard, 'deduplication', count(*) from personas.candidates group by shard
    union all
    select stages.shard, stages.stage, offered.persona_count
    from runs.stages
    inner join offered
        on stages.shard = offered.shard and stages.source is not distinct from offered.source
    where stages.stage like 'synthetic.%'
),

noted as (
    select shard, stage, unnest(string_split(input_version, ' ')) as noted
    from runs.stages
),

outdated as (
    select shard, stage
    from noted
    anti join
        (select shard, stage || '=' || output_version as noted from runs.stages)
        using (shard, noted)
)

select
    stages.shard,
    stages.stage,
    stages.input_count,
    stages.rows_in,
    coalesce(kept.rows_kept, 0) as rows_kept,
    coalesce(counts.rows_rejected, 0) as rows_rejected,
    coalesce(counts.rows_duplicate, 0) as rows_duplicate,
    coalesce(counts.rows_failed, 0) as rows_failed,
    stages.rows_in
    = coalesce(kept.rows_kept, 0)
    + coalesce(counts.rows_rejected, 0)
    + coalesce(counts.rows_duplicate, 0)
    + coalesce(counts.rows_failed, 0) as is_balanced,
    stages.input_count = coalesce(upstream.input_now, 0)
    and (stages.shard, stages.stage) not in (select (shard, stage) from outdated) as is_current,
    stages.run_id,
    stages.created_at
from runs.stages
left join kept using (shard, stage)
left join counts using (shard, stage)
left join upstream using (shard, stage)
order by
    stages.shard,
    list_position(['corpus', 'text_to_persona', 'persona_to_persona', 'quality_rules', 'deduplication'], stages.stage) nulls last,
    stages.stage
