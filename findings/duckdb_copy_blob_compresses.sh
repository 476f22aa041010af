#!/usr/bin/env bash
# DuckDB 1.5.5: COPY ... (format blob) writes the bytes of one value as they are, but compresses them
# where the target's name ends in .gz. So a file that is copied by its own name, pages.jsonl.gz, has
# been compressed twice, and a reader that unpacks it once meets gzip again.
# And read_blob of an absolute path that is not there gives no row, not an error.
# Seen on 2026-11-30 with Python 3.11.
# Exit status 0: it is still so. 1: it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q duckdb==1.5.5
venv/bin/python - <<'PY'
import gzip
import os
import sys
from pathlib import Path

import duckdb

packed = gzip.compress(b"one line\n")
Path("source.gz").write_bytes(packed)
seen = {}
for target in ("copy.bin", "copy.gz"):
    duckdb.execute(f"copy (select content from read_blob('source.gz')) to '{target}' (format blob)")
    seen[target] = Path(target).read_bytes()
    print(target, "is what was read:", seen[target] == packed)
twice = gzip.decompress(seen["copy.gz"]) == packed
print("copy.gz unpacked once is what was read:", twice)
try:
    rows = duckdb.execute("select * from read_blob($1)", [os.path.abspath("none.bin")]).fetchall()
except duckdb.Error as error:
    rows = str(error)
print("read_blob of an absolute path that is not there:", rows)
sys.exit(0 if seen["copy.bin"] == packed and twice and rows == [] else 1)
PY
