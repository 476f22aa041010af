import json
import re
from pathlib import Path

import pytest

from tests.support.commands import read_tables, run_command
from tests.support.served_model import serve_model

FREE = {"model": "fake/demo", "embedding_model": "fake/embedder"}
DOMAINS = ["instruction", "knowledge", "logical_reasoning", "math", "npc", "tool"]


def test_an_embedded_model_answers_in_the_form_that_it_is_asked_for(tmp_path: Path) -> None:
    done = run_command(
        "preview", "math", "--persona", "A lighthouse keeper who repairs radios.",
        model="embedded/qwen2.5-coder-0.5b", data_dir=tmp_path / "data",
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "problem" in done.stdout


@pytest.mark.model
def test_the_embedded_model_takes_wikipedia_pages_to_records_in_six_domains(
    tmp_path: Path,
) -> None:
    settings = {"data_dir": tmp_path / "data", "records_per_shard": 1}
    first = run_command("run", "--documents", "2", **settings)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "What to type next" in first.stdout

    sql = "select count(*), count(url), bool_and(url like 'https://en.wikipedia.org/%') "
    counted = run_command("sql", "--csv", f"{sql} from marts.lineage", **settings).stdout
    records, with_url, from_wikipedia = counted.splitlines()[1].split(",")
    assert int(records) > 0
    assert records == with_url
    assert from_wikipedia == "true"
    funnel = run_command(
        "sql", "--csv", "select sum(rows_in), bool_and(is_balanced) from marts.funnel", **settings
    )
    assert funnel.stdout.splitlines()[1].endswith("true")

    before = read_tables(tmp_path / "data" / "published.duckdb")
    second = run_command("run", "--documents", "2", **settings)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "done" not in second.stdout  # no stage had anything to ask
    assert read_tables(tmp_path / "data" / "published.duckdb") == before


def test_a_served_model_answers_the_whole_job_and_is_paid_once(tmp_path: Path, pages: Path) -> None:
    with serve_model() as model:
        settings = {
            "data_dir": tmp_path / "data",
            "source": pages,
            "embedding_model": "openai/served",
            "api_base": model.url,
        }
        for _ in range(2):
            done = run_command("run", "--model", "openai/served", **settings)
            assert done.returncode == 0, done.stdout + done.stderr

    assert model.billed_twice == 0
    tables = read_tables(tmp_path / "data" / "published.duckdb")
    rejected = tables["synthetic.rejected"]  # what the model makes up may break a domain's check
    ended = {
        domain: len(tables[f"synthetic.{domain}"]) + sum(domain in row for row in rejected)
        for domain in DOMAINS
    }
    assert ended == dict.fromkeys(DOMAINS, 3)
    assert len(rejected) < sum(ended.values())
    assert len(tables["llm.calls"]) == len(model.billed) + len(tables["personas.embeddings"])


def test_a_model_that_is_not_there_stops_the_run_with_what_to_do(
    tmp_path: Path, pages: Path
) -> None:
    settings = {"data_dir": tmp_path / "data", "source": pages}
    done = run_command(
        "run", "--model", "openai/x", "--api-base", "http://127.0.0.1:9/v1", **settings
    )

    assert done.returncode == 1
    assert "has given no answer for" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (["run", "--domains", "maths"], {}, "unknown domain 'maths'; did you mean 'math'?"),
        (["run", "--source", "no-such-file.jsonl"], {}, "no-such-file.jsonl"),
        (["run", "--model", "fake/nothing"], {}, "unknown model 'fake/nothing'"),
        (["run"], {"shard_sise": 5}, "did you mean 'PERSONA_PIPELINE_SHARD_SIZE'?"),
        (["run"], {"fan_out": 99}, "setting 'fan_out'"),
        (["run", "--hops", "2"], {}, "hops is a setting without an option here: set PERSONA_"),
        (["sql", "select 1"], {}, "run 'persona-pipeline run' first"),
        (["preview", "poems", "--persona", "A poet."], {}, "unknown domain 'poems'"),
    ],
)
def test_a_mistake_is_answered_with_one_line_that_names_it(
    tmp_path: Path, arguments: list[str], settings: dict[str, object], message: str
) -> None:
    settings = {"data_dir": tmp_path / "data", "model": "fake/demo"} | settings
    done = run_command(*arguments, **settings)

    assert done.returncode != 0
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_preview_prints_the_prompt_and_the_answer_without_a_database(tmp_path: Path) -> None:
    persona = "A lighthouse keeper who repairs radios."
    done = run_command(
        "preview", "math", "--persona", persona, "--option", "difficulty=hard",
        model="fake/demo", data_dir=tmp_path / "data",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert persona in " ".join(done.stdout.split())
    assert "hard" in done.stdout
    assert not (tmp_path / "data").exists()


def test_doctor_says_what_works_and_hides_the_key(tmp_path: Path) -> None:
    done = run_command(
        "doctor", model="fake/demo", embedding_model="fake/embedder",
        data_dir=tmp_path / "data", api_key="sk-canary",
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "fake/demo answered" in done.stdout
    assert "sk-canary" not in done.stdout + done.stderr


def test_a_first_run_makes_the_selections_that_its_domains_draw_from(
    tmp_path: Path, pages: Path
) -> None:
    settings = {
        **FREE,
        "data_dir": tmp_path / "data",
        "shard_size": 3,
        "domains": "math,npc",
        "records_per_shard": "all",
        "selections": json.dumps({"few": {"count": 4}, "unused": {"count": 1}}),
        "persona_sources": json.dumps({"math": "few"}),
    }
    done = run_command("run", "--source", str(pages), **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Selection 'few' was made: 4 personas of the hub." in done.stdout
    tables = read_tables(tmp_path / "data" / "published.duckdb")
    chosen = {row[2] for row in tables["personas.selections"]}
    assert len(chosen) == len(tables["personas.selections"]) == 4
    asked = "select distinct persona_id from llm.calls join synthetic.accepted using (call_key)"
    asked = f"select count(*), count(*) filter (persona_id in {tuple(chosen)}) from ({asked} "
    counted = run_command("sql", "--csv", f"{asked} where domain = 'math')", **settings).stdout
    assert counted.splitlines()[1] == "4,4"

    (pages / "more.md").write_text("How a tide works and who prints its tables. " * 9)
    more = run_command("run", "--source", str(pages), **settings)
    assert more.returncode == 0, more.stdout + more.stderr
    said = " ".join(more.stdout.split())
    assert re.search(r"Selection 'few' \(math\) was made from another hub of pages\S+ than", said)
    after = read_tables(tmp_path / "data" / "published.duckdb")
    assert after["personas.selections"] == tables["personas.selections"]


def test_a_run_without_a_document_ends_with_the_reason_and_asks_nothing(
    tmp_path: Path, pages: Path
) -> None:
    settings = {
        **FREE,
        "data_dir": tmp_path / "data",
        "domains": "math",
        "min_chars": 100_000,
        "selections": json.dumps({"few": {"count": 4}}),
        "persona_sources": json.dumps({"math": "few"}),
    }
    done = run_command("run", "--source", str(pages), **settings)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "all 6 rows of the source were turned away: too_short 6" in done.stderr
    assert run_command("calls", **settings).stdout == ""


def test_a_run_with_another_threshold_says_what_it_changed_of_other_shards(
    tmp_path: Path, pages: Path
) -> None:
    settings = {
        **FREE,
        "data_dir": tmp_path / "data",
        "domains": "math",
        "records_per_shard": "all",
    }
    first = run_command("run", "--documents", "20", **settings)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "All shards" not in first.stdout
    assert "run --documents 40 --data-dir" in " ".join(first.stdout.split())
    second = run_command("run", "--source", str(pages), jaccard_threshold=0.5, **settings)
    said = " ".join(second.stdout.split())
    [(shard, now, was)] = re.findall(r"personas of (wikipedia-\d+) (\d+) \(was (\d+)\)", said)
    assert int(now) < int(was)
    assert f"domain's selection, any more: {int(was) - int(now)} of {shard}." in said
    behind = run_command("sql", "--csv", "--example", "shards_behind", **settings).stdout
    assert f'{shard},wikipedia,"[""synthetic.math""]",{int(was) - int(now)}' in behind


def test_ten_kinds_of_broken_input_are_rejected_with_file_line_and_reason(
    tmp_path: Path, pages: Path
) -> None:
    good = json.dumps({"text": "A long enough text about how a lighthouse is kept. " * 6})
    broken: dict[str, bytes] = {
        "broken.jsonl": f'{good}\n{{"text": \n'.encode(),
        "array.jsonl": b"[1, 2]\n",
        "number.jsonl": b'{"text": 12}\n',
        "no_text.jsonl": b'{"body": "x"}\n',
        "latin1.jsonl": '{"text": "caf\xe9"}\n'.encode("latin-1"),
        "empty.jsonl": b'{"text": "   "}\n',
        "short.jsonl": b'{"text": "too short"}\n',
        "cut.jsonl.gz": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
        "not.parquet": b"PAR1 this is not parquet",
        "picture.png": b"\x89PNG",
        "again.jsonl": f"{good}\n".encode(),
    }
    for name, content in broken.items():
        (pages / name).write_bytes(content)

    done = run_command(
        "run", "--source", str(pages), "--documents", "all", "--model", "fake/demo",
        data_dir=tmp_path / "data", embedding_model="fake/embedder", domains="math",
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    tables = read_tables(tmp_path / "data" / "published.duckdb")
    assert len(tables["corpus.documents"]) == 7
    rows = run_command(
        "sql", "--csv", "select file, line, reason from corpus.rejected order by file, line",
        data_dir=tmp_path / "data",
    ).stdout.split()  # fmt: skip
    assert rows[1:] == [
        "array.jsonl,1,not_an_object",
        "array.jsonl,2,not_an_object",
        "broken.jsonl,1,duplicate",
        "broken.jsonl,2,broken_json",
        "cut.jsonl.gz,1,broken_file",
        "empty.jsonl,1,empty",
        "latin1.jsonl,1,invalid_utf8",
        "no_text.jsonl,1,missing_text",
        "not.parquet,,broken_file",
        "number.jsonl,1,wrong_type",
        "picture.png,,unsupported_file",
        "short.jsonl,1,too_short",
    ]
