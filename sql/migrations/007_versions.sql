-- What a stage's rows were made from, and what they are: hashes that are compared with each other, never
-- computed again. Null: the stage ran before there were any.
alter table runs.stages add column input_version varchar;
alter table runs.stages add column output_version varchar;
