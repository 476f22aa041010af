-- One row: the schema version of the database, and the version of its views.
-- reads: schema_migrations, schema_views
select
    (select max(version) from schema_migrations) as schema_version,
    (select arg_max(version, applied_at) from schema_views) as views_version
