-- One row per column of a table or view of this database, with what it holds.
-- reads: duckdb_columns(), duckdb_tables(), duckdb_views(), whose comments are the texts of sql/dictionary.csv
with owners as (
    select schema_name, table_name, 'table' as kind, comment
    from duckdb_tables()
    where database_name = current_database() and not internal
    union all
    select schema_name, view_name, 'view', comment
    from duckdb_views()
    where database_name = current_database() and not internal
)

select
    owners.schema_name,
    owners.table_name,
    owners.kind,
    columns.column_index as position,
    columns.column_name,
    columns.data_type,
    columns.comment as description,
    owners.comment as row_description
from owners
inner join duckdb_columns() as columns
    on owners.schema_name = columns.schema_name and owners.table_name = columns.table_name
where
    columns.database_name = current_database()
    and owners.schema_name in (
        'corpus', 'personas', 'synthetic', 'llm', 'runs', 'marts', 'main'
    )
order by owners.schema_name, owners.table_name, columns.column_index
