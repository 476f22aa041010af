"""Keep everything in one DuckDB file: tables, transactions, migrations, snapshot, backup."""
