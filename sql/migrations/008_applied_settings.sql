-- What the shards were compared and decided with, so that what is said of the data does not rest on the settings of
-- now; null: by an earlier version. And of each threshold that was tried, in which layers it would remove.
alter table runs.compared add column min_jaccard double;
alter table runs.compared add column min_cosine double;
alter table runs.resolved add column jaccard_threshold double;
alter table runs.resolved add column cosine_threshold double;
alter table runs.resolved add column fuzzy_threshold double;
alter table personas.sweep add column exact bigint;
alter table personas.sweep add column surface bigint;
alter table personas.sweep add column fuzzy bigint;
alter table personas.sweep add column semantic bigint;
