-- A shard with too many similar pairs stores only those that decided.
alter table runs.compared add column has_all_pairs boolean;
