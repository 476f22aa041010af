-- State of deduplication: what is known of each candidate, every similar pair ever found, and which
-- shards have been compared and resolved. Keys are stable hashes of text: rows stay true whatever
-- shard comes or goes.
alter table personas.duplicates add column fuzzy_score double;
create table personas.fingerprints (
    shard varchar, persona_id varchar, quality double, sequence_key ubigint, set_key ubigint,
    text_key ubigint, run_id varchar, created_at timestamp
);
create table personas.pairs (
    shard varchar, layer varchar, first_key ubigint, second_key ubigint, similarity double,
    fuzzy_score double, run_id varchar, created_at timestamp
);
create table personas.selections (
    shard varchar, name varchar, persona_id varchar, place bigint, distance double,
    run_id varchar, created_at timestamp
);
-- The selection that a stage took its personas from; null: the hub.
alter table runs.stages add column source varchar;
create table synthetic.duplicates (
    shard varchar, domain varchar, record_id varchar, kept_id varchar, layer varchar,
    similarity double, threshold double, run_id varchar, created_at timestamp
);
create table runs.compared (shard varchar, version varchar, run_id varchar, created_at timestamp);
create table runs.resolved (shard varchar, basis varchar, run_id varchar, created_at timestamp);
create table personas.sweep (
    shard varchar, threshold double, candidates bigint, kept bigint, removed bigint,
    is_chained boolean, run_id varchar, created_at timestamp
);
