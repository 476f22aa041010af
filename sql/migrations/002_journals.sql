-- One row per journal file whose calls are in llm.calls: a process that is killed between the commit and
-- the end of the file leaves it behind, and its calls must not be counted again.
create table committed_journals (name varchar, bytes bigint, run_id varchar, created_at timestamp);
