-- What a document is about, in its source's own words; null: the source does not say.
alter table corpus.documents add column topic varchar;
