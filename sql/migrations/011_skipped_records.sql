-- How many records of a web archive hold no page, by file and reason, as of its last reading.
create table corpus.skipped (
    source varchar, file varchar, reason varchar, record_count bigint, run_id varchar,
    created_at timestamp
);
