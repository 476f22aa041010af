-- What the hub of each shard was when a selection was made from it, and by which rules.
create table if not exists runs.selected (
    shard varchar, name varchar, hub_version varchar, rules varchar, run_id varchar,
    created_at timestamp
);
