-- What each step of each shard was made from when it ended: a run leaves out what is as it was.
create table runs.steps (
    shard varchar, step varchar, version varchar, inputs varchar, outputs varchar, run_id varchar,
    created_at timestamp
);
