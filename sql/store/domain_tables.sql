-- One row per domain that has a table.
-- reads: information_schema.columns
select table_name
from information_schema.columns
where
    table_schema = 'synthetic'
    and column_name = 'record_id'
    and table_name not in ('accepted', 'duplicates', 'records')
order by table_name
