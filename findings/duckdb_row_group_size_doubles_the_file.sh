#!/usr/bin/env bash
# duckdb 1.5.5: how large a file becomes that is appended to depends on its row group size by more than compression. A
# million rows are appended in 50 statements of 20,000 to a database attached with `row_group_size`. With 16,384 the
# file takes twice the bytes that 12,288 and 20,480 take: half of its blocks are free, left by the rewriting of row
# groups when the file is detached, which takes a second, too. The free blocks are used by later writes, but stay in the
# file; so does a copy of the file. Who lowers the row group size to save memory should try two sizes.
# Seen on 2026-11-30 with Python 3.11.
# Exit status 0: it is still so. 1: it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > append.py <<'PY'
import os
import sys
import time

import duckdb

INSERT = """
insert into file.persona
select md5((range + {0} * 20000)::varchar), 's{0}',
       'A persona who works as ' || md5(range::varchar) || ' and likes ' || range, random(), now()::timestamp
from range(20000)
"""
sizes = {}
for rows in (12288, 16384, 20480):
    connection = duckdb.connect(config={"threads": 1})
    connection.execute(f"attach 'of_{rows}.duckdb' as file (row_group_size {rows}, type duckdb)")
    connection.execute(
        "create table file.persona (id varchar, shard varchar, text varchar, rank double, seen timestamp)"
    )
    for number in range(50):
        connection.execute(INSERT.format(number))
    before = time.process_time()
    connection.execute("detach file")
    seconds = time.process_time() - before
    sizes[rows] = os.path.getsize(f"of_{rows}.duckdb") / 1e6
    with duckdb.connect(f"of_{rows}.duckdb", read_only=True) as reader:
        used, free = reader.sql("select used_blocks, free_blocks from pragma_database_size()").fetchone()
        count = reader.sql("select count(*) from persona").fetchone()[0]
    print(f"row_group_size {rows:6}: {sizes[rows]:6.1f} MB, {used} blocks used, {free} free, {count} rows, detach {seconds:.2f} CPU-s")
sys.exit(0 if sizes[16384] > 1.5 * max(sizes[12288], sizes[20480]) else 1)
PY
python3 -m venv venv
venv/bin/pip install -q duckdb==1.5.5
venv/bin/python append.py
