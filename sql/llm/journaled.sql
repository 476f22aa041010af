-- One row per call key in journal files: the answer if there is one, with what all attempts used.
-- A vector with null or NaN, which an earlier version took for an answer, is a failed call.
-- reads: journal files (JSON lines, torn or foreign ones are skipped)   params: $files (paths)
with lines as (
    select
        * replace (if(llm.is_broken_vector(stage, status, response), 'failed', status) as status)
    from
        read_ndjson(
            $files,
            columns = {
                call_key: 'varchar', shard: 'varchar', stage: 'varchar', model: 'varchar',
                prompt_name: 'varchar', prompt_version: 'varchar', params: 'varchar',
                request: 'varchar', response: 'varchar', status: 'varchar', error: 'varchar',
                finish_reason: 'varchar', tokens_in: 'bigint', tokens_cached: 'bigint',
                tokens_out: 'bigint', cost_usd: 'double', latency_ms: 'bigint', attempts: 'bigint',
                reasoning: 'varchar'
            },
            hive_partitioning = false,
            ignore_errors = true,
            maximum_object_size = 268435456
        )
    where call_key is not null and status is not null
)

select
    call_key, shard, stage, model, prompt_name, prompt_version, params, request, response, status,
    error, finish_reason,
    sum(tokens_in) over same_key as tokens_in,
    sum(tokens_cached) over same_key as tokens_cached,
    sum(tokens_out) over same_key as tokens_out,
    case
        when count(cost_usd) over same_key = count(*) over same_key
            then sum(cost_usd) over same_key
    end as cost_usd,
    sum(latency_ms) over same_key as latency_ms,
    sum(attempts) over same_key as attempts,
    reasoning
from lines
window same_key as (partition by call_key)
qualify
    row_number() over (
        partition by call_key
        order by
            status = 'failed', status <> 'ok', llm.room_of(params) desc, attempts, response, error
    )
    = 1
