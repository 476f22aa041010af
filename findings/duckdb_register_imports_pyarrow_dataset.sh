#!/usr/bin/env bash
# duckdb 1.5.5: registering an object that only offers the Arrow C stream (__arrow_c_stream__), as a Polars frame
# does, imports pyarrow.dataset and pyarrow.compute if pyarrow is installed. Without pyarrow the same query has
# the same result and imports neither. The two take 0.1 to 0.3 CPU-seconds, once in a process: a command-line
# program that queries one small frame starts slower where pyarrow is.
# Seen on 2026-11-30 with Python 3.11, polars 2.1.0 and pyarrow 26.0.1.
# Exit status 0: it is still so. 1: it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > register.py <<'PY'
import sys
import time

import duckdb
import polars as pl


class Stream:
    """Offers the rows of a frame as an Arrow C stream, and nothing else."""

    def __init__(self, frame):
        self.frame = frame

    def __arrow_c_stream__(self, requested_schema=None):
        return self.frame.__arrow_c_stream__(requested_schema)


before = time.process_time()
connection = duckdb.connect()
try:
    connection.register("rows", Stream(pl.DataFrame({"number": [1, 2]})))
    total = connection.sql("select sum(number) from rows").fetchall()
except Exception as error:
    total = f"{type(error).__name__}: {error}"
print("sum:", total, f"| {time.process_time() - before:.2f} CPU-s")
loaded = [name for name in ("pyarrow.dataset", "pyarrow.compute") if name in sys.modules]
print("imported:", loaded)
sys.exit(0 if len(loaded) == int(sys.argv[1]) else 1)
PY
python3 -m venv venv
venv/bin/pip install -q duckdb==1.5.5 polars==2.1.0
echo "without pyarrow"
venv/bin/python register.py 0
venv/bin/pip install -q pyarrow==26.0.1
echo "with pyarrow"
venv/bin/python register.py 2
