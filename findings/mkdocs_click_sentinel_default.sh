#!/usr/bin/env bash
# mkdocs-click 0.9.0 with click 8.3: in ':style: table' the default of every option that has none is
# written as an internal value of click, 'Sentinel.UNSET'. ':style: plain' does not write it.
# Help text is taken as Markdown besides: what stands in angle brackets, such as <NAME>, is dropped.
# Seen on 2026-11-29: the table has `Sentinel.UNSET` once per option, and "PREFIX_" has lost its <NAME>.
# Exit status 0: still so. 1: changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q "mkdocs==1.6.1" "mkdocs-click==0.9.0" "click==8.3.1"
mkdir docs
cat > command.py <<'PY'
import click


@click.command()
@click.option("--size", help="Rows to take.")
def cli() -> None:
    """Take rows. Every option is a variable, too: PREFIX_<NAME>."""
PY
page() {  # the built page of one style
  printf '# Commands\n\n::: mkdocs-click\n    :module: command\n    :command: cli\n    :style: %s\n' "$1" > docs/index.md
  PYTHONPATH=. venv/bin/mkdocs build -q -d "site_$1" 2> /dev/null
  cat "site_$1/index.html"
}
cat > mkdocs.yml <<'YML'
site_name: x
markdown_extensions: [attr_list, tables, mkdocs-click]
YML
table=$(page table)
plain=$(page plain)
echo "table: $(grep -c 'Sentinel.UNSET' <<< "$table") line(s) with Sentinel.UNSET; plain: $(grep -c 'Sentinel.UNSET' <<< "$plain" || true)"
echo "help text: $(grep -o 'PREFIX_[^.]*\.' <<< "$table" | head -n 1)"
grep -q 'Sentinel.UNSET' <<< "$table"
! grep -q 'Sentinel.UNSET' <<< "$plain"
! grep -q 'PREFIX_&lt;NAME&gt;' <<< "$table"
