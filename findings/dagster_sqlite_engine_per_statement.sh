#!/usr/bin/env bash
# dagster 1.13.27 with its default SQLite storage: each read or write of an event or a run builds a new SQLAlchemy
# engine and opens the file anew, so no compiled statement is ever used twice (the cache is the engine's). A run of
# one asset in one process builds 39 engines, a run of 20 assets 229.
# Seen on 2026-11-30 with Python 3.11.
# Exit status 0: it is still so. 1: it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q dagster==1.13.27
mkdir home
echo 'telemetry: {enabled: false}' > home/dagster.yaml
venv/bin/python - "$work/home" 2>log <<'PY'
import sys

import dagster as dg
import sqlalchemy
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage

built = []
real = sqlalchemy.create_engine


def counting(*arguments, **named):
    built.append(arguments[0])
    return real(*arguments, **named)


sqlite_event_log.create_engine = sqlite_run_storage.create_engine = counting


def engines(count):
    assets = [dg.AssetsDefinition.from_op(_op(f"asset_{n}")) for n in range(count)]
    with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
        built.clear()
        assert dg.materialize(assets, instance=instance).success
        return len(built)


def _op(name):
    @dg.op(name=name)
    def work():
        return 1

    return work


one, twenty = engines(1), engines(20)
print("engines built for a run of 1 asset:", one, "| of 20 assets:", twenty)
sys.exit(0 if one > 20 and twenty > 10 * 20 else 1)
PY
