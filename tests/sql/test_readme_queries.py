import re
from pathlib import Path

import pytest

from persona_pipeline.store.store import Store

README = Path(__file__).parent.parent.parent / "README.md"
[BLOCK] = re.findall(r"```sql\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
QUERIES = [query.strip() for query in BLOCK.split(";") if query.strip()]


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_the_readme_runs_on_an_empty_database(query: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "pipeline.duckdb", tmp_path / "published.duckdb")
    store.migrate()
    assert store.query(query).is_empty()
