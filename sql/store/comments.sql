-- One row per table, view and column, with its comment. The column is '' for tables and views.
-- reads: duckdb_tables(), duckdb_views(), duckdb_columns()   params: none
with named as (
    select schema_name, table_name, '' as column_name, false as is_view, comment
    from duckdb_tables()
    where database_name = current_database() and not internal
    union all
    select schema_name, view_name, '', true, comment
    from duckdb_views()
    where database_name = current_database() and not internal
    union all
    select schema_name, table_name, column_name, false, comment
    from duckdb_columns()
    where database_name = current_database() and not internal
)

select schema_name || '.' || table_name as table_name, column_name, is_view, comment
from named
order by table_name, column_name
