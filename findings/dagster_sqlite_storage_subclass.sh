#!/usr/bin/env bash
# dagster 1.13.27: a subclass of DagsterSqliteStorage that an instance's file names as its custom storage is
# not used, and nothing says so: from_config_value calls from_local on the base class by its name. A
# subclass must define from_config_value, too.
# Seen on 2026-11-30 with Python 3.11.
# Exit status 0: it is still so. 1: it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q dagster==1.13.27
mkdir home
cat > mine.py <<'PY'
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage


class Mine(DagsterSqliteStorage):
    """Stands for a storage that changes something."""
PY
cat > home/dagster.yaml <<YAML
telemetry: {enabled: false}
storage:
  custom:
    module: mine
    class: Mine
    config: {base_dir: $work/home/storage}
YAML
PYTHONPATH=$work venv/bin/python - "$work/home" <<'PY'
import sys

from dagster import DagsterInstance

with DagsterInstance.from_config(sys.argv[1]) as instance:
    data = instance.get_ref().storage_data
    loaded = type(data.rehydrate(as_type=object)).__name__
print("named:", data.class_name, "| loaded:", loaded)
sys.exit(0 if (data.class_name, loaded) == ("Mine", "DagsterSqliteStorage") else 1)
PY
