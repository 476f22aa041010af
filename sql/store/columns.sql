-- One row per column of a table.
-- reads: information_schema.columns   params: $schema, $table
select column_name, data_type
from information_schema.columns
where table_schema = $schema and table_name = $table
order by ordinal_position
