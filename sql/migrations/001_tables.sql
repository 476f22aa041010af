-- The tables. No keys, indexes, ENUM, sequences or fixed-size arrays: the same statements run on
-- a plain DuckDB file and on DuckLake. Times are UTC. The tables of the domains are made from their domain.yaml.

create schema if not exists corpus;
create schema if not exists personas;
create schema if not exists synthetic;
create schema if not exists llm;
create schema if not exists runs;
create schema if not exists marts;

create table corpus.shards (
    shard varchar, shard_number integer, source varchar, source_spec varchar, staged_file varchar,
    row_count bigint, content_hash varchar, run_id varchar, created_at timestamp
);
create table corpus.documents (
    shard varchar, document_id varchar, source varchar, url varchar, title varchar, language varchar,
    license varchar, file varchar, line bigint, text varchar, char_count bigint,
    injection_suspected boolean, run_id varchar, created_at timestamp
);
create table corpus.rejected (
    shard varchar, document_id varchar, source varchar, file varchar, line bigint, reason varchar,
    detail varchar, run_id varchar, created_at timestamp
);

create table personas.extracted (
    shard varchar, persona_id varchar, document_id varchar, verb varchar, granularity varchar,
    persona varchar, call_key varchar, run_id varchar, created_at timestamp
);
create table personas.related (
    shard varchar, persona_id varchar, parent_id varchar, root_id varchar, hop integer,
    relationship varchar, persona varchar, call_key varchar, run_id varchar, created_at timestamp
);
create table personas.candidates (
    shard varchar, persona_id varchar, origin varchar, persona varchar, word_count bigint,
    run_id varchar, created_at timestamp
);
create table personas.rejected (
    shard varchar, stage varchar, persona_id varchar, persona varchar, reason varchar,
    detail varchar, call_key varchar, run_id varchar, created_at timestamp
);
create table personas.embeddings (
    shard varchar, persona_id varchar, model varchar, embedding float[], run_id varchar,
    created_at timestamp
);
create table personas.duplicates (
    shard varchar, persona_id varchar, kept_id varchar, layer varchar, similarity double,
    threshold double, run_id varchar, created_at timestamp
);
create table personas.hub (
    shard varchar, persona_id varchar, origin varchar, persona varchar, root_id varchar,
    root_document_id varchar, hop integer, run_id varchar, created_at timestamp
);

create table synthetic.rejected (
    shard varchar, domain varchar, persona_id varchar, variant varchar, prompting varchar,
    reason varchar, detail varchar, answer varchar, call_key varchar, run_id varchar,
    created_at timestamp
);

create table llm.calls (
    shard varchar, call_key varchar, stage varchar, model varchar, prompt_name varchar,
    prompt_version varchar, params varchar, request varchar, response varchar, status varchar,
    error varchar, finish_reason varchar, tokens_in bigint, tokens_cached bigint, tokens_out bigint,
    cost_usd double, latency_ms bigint, attempts bigint, run_id varchar, created_at timestamp
);
create table runs.stages (
    shard varchar, stage varchar, input_count bigint, rows_in bigint, run_id varchar,
    created_at timestamp
);
