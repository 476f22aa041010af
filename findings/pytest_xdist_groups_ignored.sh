#!/usr/bin/env bash
# pytest-xdist 3.8.0 under pytest 9.2.0: '--dist=loadgroup' runs, and the groups have no effect.
# Tests with one xdist_group mark are spread over the workers, so a fixture that they share is made
# once per worker. No warning is printed. Under pytest 9.1.1 one worker gets the whole group.
# Seen on 2026-11-29 with Python 3.11: 9.2.0 used 2 workers for the group, 9.1.1 used 1.
# Exit status 0: both are still so. 1: one of them has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
cat > test_group.py <<'PY'
import pathlib

import pytest


@pytest.mark.parametrize("number", range(12))
@pytest.mark.xdist_group("shared")
def test_in_the_group(number, worker_id):
    with pathlib.Path("workers.txt").open("a") as file:
        file.write(worker_id + "\n")
PY
workers_of() {  # how many workers ran tests of the one group
  venv/bin/pip install -q "pytest==$1" "pytest-xdist==3.8.0"
  rm -f workers.txt
  venv/bin/python -m pytest -q -p no:cacheprovider -n 2 --dist=loadgroup test_group.py > /dev/null
  sort -u workers.txt | wc -l
}
new=$(workers_of 9.2.0)
old=$(workers_of 9.1.1)
echo "workers that ran the group: $new under pytest 9.2.0, $old under pytest 9.1.1"
[ "$new" = 2 ] && [ "$old" = 1 ]
