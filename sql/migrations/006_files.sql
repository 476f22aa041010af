-- One row per file of a watched place, as it was last seen; and per stage that stopped before its end.
create table corpus.files (
    place varchar, file varchar, state varchar, byte_count bigint, modified_at timestamp,
    document_count bigint, new_count bigint, rejected_count bigint, first_seen_at timestamp,
    run_id varchar, created_at timestamp
);
create table runs.stops (
    shard varchar, stage varchar, reason varchar, detail varchar, run_id varchar,
    created_at timestamp
);
