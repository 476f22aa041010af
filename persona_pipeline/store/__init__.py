"""The DuckDB file: tables, transactions, migrations, snapshot, backup."""
