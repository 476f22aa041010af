-- Whether other candidates had the same words when the shard was compared; null: not known.
alter table personas.fingerprints add column is_repeated boolean;
