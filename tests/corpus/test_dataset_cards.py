"""A folder of the Hugging Face Hub: its data files are read, with the licence of its card."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persona_pipeline.corpus.dataset_cards import parse_card
from persona_pipeline.corpus.document import Document
from persona_pipeline.corpus.sources import list_source
from persona_pipeline.errors import SourceError
from persona_pipeline.reasons import DocumentReason as Reason
from tests.support.hub_server import serve_hub
from tests.support.source_rows import SHORT, get_rejected, get_texts, read

CARD = """---
license: cc-by-4.0
language:
- fr
tags: [web]
pretty_name: Bakers
---
# Bakers
A data set of bakers.
"""


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def line(text: str, **more: str) -> str:
    return json.dumps({"text": text, **more}) + "\n"


def documents(spec: object, **options: str) -> list[Document]:
    rows = read(spec, replace(SHORT, **options))  # type: ignore[arg-type]  # all are texts
    kept = [row for row in rows if isinstance(row, Document)]
    assert len(kept) == len(rows), rows
    return kept


# which files


def test_of_a_data_set_the_data_files_are_read_with_the_licence_of_the_card(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "bakers",
        {
            "README.md": CARD,
            "README_fr.md": "prose",
            "LICENSE": "prose",
            "LICENSE.txt": "prose",
            "bakers.py": "code",
            ".gitattributes": "*.parquet filter=lfs",
            "dataset_infos.json": "{}",
            "data/train-00000-of-00001.jsonl.gz": gzip.compress(line("one").encode()),
            "data/test.csv": "text,license\ntwo,CC0-1.0\n",
            "licenses-of-bakers.jsonl": line("three"),
        },
    )
    pq.write_table(pa.table({"text": ["four"]}), folder / "data" / "extra.parquet")
    rows = documents(folder)
    assert [(row.file, row.text, row.license, row.language) for row in rows] == [
        ("data/extra.parquet", "four", "cc-by-4.0", "fr"),
        ("data/test.csv", "two", "CC0-1.0", "fr"),
        ("data/train-00000-of-00001.jsonl.gz", "one", "cc-by-4.0", "fr"),
        ("licenses-of-bakers.jsonl", "three", "cc-by-4.0", "fr"),
    ]
    assert [file.file for file in list_source(str(folder))] == [row.file for row in rows]


def test_the_settings_win_over_the_card_and_the_row_over_both(tmp_path: Path) -> None:
    lines = line("one") + line("two", license="MIT", language="de")
    folder = write(tmp_path, {"README.md": CARD, "a.jsonl": lines})
    rows = documents(folder, license="CC0-1.0", language="en")
    assert [(row.license, row.language) for row in rows] == [("CC0-1.0", "en"), ("MIT", "de")]


def test_a_pattern_below_the_folder_has_the_licence_of_the_card_too(tmp_path: Path) -> None:
    folder = write(tmp_path, {"README.md": CARD, "data/a.jsonl": line("one")})
    assert [row.license for row in documents(f"{folder}/data*/*.jsonl")] == ["cc-by-4.0"]
    for spec in ("**/*.jsonl", "data/*.jsonl", "data", "data/a.jsonl"):
        assert [row.license for row in documents(f"{folder}/{spec}")] == ["cc-by-4.0"]


def test_data_sets_below_a_folder_have_each_its_own_card(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        {
            "notes.md": "A note.",
            "one/README.md": CARD,
            "one/data/a.jsonl": line("one"),
            "deep/two/README.md": "---\nlicense: mit\nconfigs:\n- data_files: a.*\n---\n",
            "deep/two/a.jsonl": line("two"),
            "deep/two/b.jsonl": line("left out"),
            "deep/c.jsonl": line("three"),
        },
    )
    assert [(row.file, row.license) for row in documents(folder)] == [
        ("deep/c.jsonl", None),
        ("deep/two/a.jsonl", "mit"),
        ("notes.md", None),
        ("one/data/a.jsonl", "cc-by-4.0"),
    ]
    assert [row.license for row in documents(f"{folder}/**/a.jsonl")] == ["mit", "cc-by-4.0"]


FILES = {
    "data/train-0.jsonl": line("train"),
    "data/test-0.jsonl": line("test"),
    "data/deep/er.jsonl": line("deep"),
    "held-out.jsonl": line("held out"),
    "fr/a.jsonl": line("French"),
    "notes.txt": "notes",
}


@pytest.mark.parametrize(
    ("data_files", "texts"),
    [
        ("held-out.jsonl", {"held out"}),
        ("data/*", {"train", "test"}),
        ("data/**", {"train", "test", "deep"}),
        ("data/", {"train", "test", "deep"}),
        ("**/*.jsonl", {"train", "test", "deep", "held out", "French"}),
        (["data/train-*", "./notes.txt"], {"train", "notes"}),
        ([{"split": "train", "path": "data/train-*"}], {"train"}),
        ([{"split": "all", "path": ["data/t*-0.jsonl", "none-*"]}], {"train", "test"}),
        ({"train": "data/train-*", "test": ["data/test-*"]}, {"train", "test"}),
    ],
)
def test_the_files_that_a_card_configures_are_read_and_no_others(
    tmp_path: Path, data_files: object, texts: set[str]
) -> None:
    configs = json.dumps([{"config_name": "default", "data_files": data_files}])
    folder = write(tmp_path, {"README.md": f"---\nconfigs: {configs}\n---\n", **FILES})
    assert {row.text for row in documents(folder)} == texts


def test_a_configuration_without_files_has_all_that_the_others_do_not_exclude(
    tmp_path: Path,
) -> None:
    configs = '[{"config_name": "default"}, {"config_name": "fr", "data_files": "fr/*"}]'
    folder = write(tmp_path, {"README.md": f"---\nconfigs: {configs}\n---\n", **FILES})
    assert len(documents(folder)) == len(FILES)


def test_what_is_about_the_data_is_left_out_unless_it_is_named_and_the_rest_is_rejected(
    tmp_path: Path,
) -> None:
    about = {"data/README.md": "x", "data/LICENSE": "x", "dataset_infos.json": "{}", "a.py": "x"}
    data = {"notices-0001.txt": "notices", "data/notice.txt": "notice", "a.tar": "x"}
    card = "---\nconfigs:\n- data_files: ['**', a.py]\n---\n"
    for readme in (CARD, card):
        folder = write(tmp_path, {"README.md": readme, "LICENSE.txt": "x", **about, **data})
        rows = read(folder)
        assert get_texts(rows) == ["notice", "notices"]
        named = ["a.py", "a.tar"] if readme == card else ["a.tar"]
        assert [(row.file, row.reason) for row in get_rejected(rows)] == [
            (name, Reason.UNSUPPORTED_FILE) for name in named
        ]


def test_a_data_set_below_whose_files_have_not_arrived_stops_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    card = "---\nconfigs:\n- data_files: data/*.parquet\n---\n"
    folder = write(tmp_path, {"set/README.md": card, "good.jsonl": line("one")})
    assert get_texts(read(folder)) == ["one"]
    assert [file.file for file in list_source(str(folder))] == ["good.jsonl"]
    assert "set has no file that matches data/*.parquet of its README.md" in caplog.text
    assert list_source(str(folder / "set")) == []  # they may come, where it is watched


def test_each_configuration_is_read_from_its_own_folder(tmp_path: Path) -> None:
    configs = json.dumps(
        [
            {"config_name": "fr", "data_dir": "fr"},
            {"config_name": "en", "data_dir": "./data/", "data_files": "train-*"},
        ]
    )
    folder = write(tmp_path, {"README.md": f"---\nconfigs: {configs}\n---\n", **FILES})
    assert {row.text for row in documents(folder)} == {"French", "train"}


def test_a_card_whose_files_are_not_there_ends_the_run_with_their_names(tmp_path: Path) -> None:
    card = "---\nconfigs:\n- data_files: data/*.parquet\n---\n"
    folder = write(tmp_path, {"README.md": card, "a.jsonl": line("one")})
    with pytest.raises(SourceError, match=r"data files that its README.md names: data/\*"):
        read(folder)


def test_no_pattern_of_a_card_leads_out_of_the_folder(tmp_path: Path) -> None:
    write(tmp_path, {"secret.jsonl": line("secret")})
    card = f"---\nconfigs:\n- data_files: ['../secret.jsonl', '{tmp_path}/*', 'a.*']\n---\n"
    folder = write(tmp_path / "set", {"README.md": card, "a.jsonl": line("one")})
    assert get_texts(read(folder)) == ["one"]


def test_what_save_to_disk_wrote_is_a_data_set(tmp_path: Path) -> None:
    table = pa.table({"text": ["one"]})
    info = json.dumps({"license": "mit", "features": {}})
    folder = write(
        tmp_path,
        {
            "dataset_dict.json": '{"splits": ["train"]}',
            "train/dataset_info.json": info,
            "train/state.json": "{}",
        },
    )
    with pa.ipc.new_stream(folder / "train" / "data-00000-of-00001.arrow", table.schema) as writer:
        writer.write_table(table)
    assert [(row.text, row.license) for row in documents(folder)] == [("one", "mit")]
    assert [row.license for row in documents(folder / "train")] == ["mit"]


# what is no card


@pytest.mark.parametrize(
    "readme",
    [
        "# Notes\n",
        "---\ntitle: A site\nlayout: page\n---\ntext",
        "---\nlicense: mit\n",
        "---\n---\n",
    ],
)
def test_a_folder_of_markdown_stays_one(tmp_path: Path, readme: str) -> None:
    folder = write(tmp_path, {"README.md": readme, "LICENSE.txt": "text", "a.md": "page"})
    assert [row.file for row in read(folder)] == ["LICENSE.txt", "README.md", "a.md"]


def test_a_card_whose_yaml_is_broken_is_no_card_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(tmp_path, {"README.md": "---\nlicense: [mit\n---\n", "a.jsonl": line("one")})
    assert get_texts(read(folder))[-1] == "one"
    assert f"the YAML at the beginning of {folder / 'README.md'} cannot be read" in caplog.text


# licence and language


@pytest.mark.parametrize(
    ("yaml", "licence", "language"),
    [
        ("license: mit", "mit", None),
        ("license: [cc-by-4.0, mit]\nlanguage: [en, fr]", "cc-by-4.0, mit", None),
        ("license: other\nlicense_name: my-terms\nlanguage: en", "my-terms", "en"),
        ("license: other", "other", None),
        ("pretty_name: x\nlanguage: [en]", None, "en"),
        ("license: 3\nlanguage: {a: b}", "3", None),
        ('license: "\\e[31mRED\\n x"\nlanguage: [no]', "[31mRED x", "no"),
        ("license: mit\nlanguage: [en, no]", "mit", None),
        ("license: mit\ndataset_info:\n  features: [{name: a}]", "mit", None),
        ("license: mit\nconfigs: 3", "mit", None),
        ("license: mit\nconfigs: [[], {data_files: [[[[a]]], {path: {b: c}}]}]", "mit", None),
    ],
)
def test_a_card_says_the_licence_and_the_only_language(
    yaml: str, licence: str | None, language: str | None
) -> None:
    card = parse_card(f"---\r\n{yaml}\r\n---\r\n".encode(), "a card")
    assert card is not None
    assert (card.license, card.language, card.patterns) == (licence, language, ())


@pytest.mark.parametrize(
    "yaml",
    [
        "configs: &a [*a]",
        "configs: [{data_files: &b [*b]}]",
        f"configs: {'[' * 3000}",
        "date: 2023-02-30\nconfigs: !!int abc",
        "\n".join(["x0: &x0 [a]"] + [f"x{n}: &x{n} [{f'*x{n - 1},' * 9}]" for n in range(1, 9)]),
    ],
)
def test_no_yaml_ends_or_holds_up_the_reading(tmp_path: Path, yaml: str) -> None:
    card = f"---\nlicense: mit\nsize_categories: [n<1K]\n{yaml}\n---\n"
    folder = write(tmp_path, {"README.md": card, "a.jsonl": line("one")})
    assert "one" in get_texts(read(folder))


def test_the_files_of_a_card_may_be_written_in_other_ways(tmp_path: Path) -> None:
    for data_files in ("**.jsonl", "data//a.jsonl", "hf://datasets/o/n/data/a.jsonl"):
        card = f"---\nconfigs:\n- data_files: '{data_files}'\n---\n"
        folder = write(tmp_path, {"README.md": card, "data/a.jsonl": line("one")})
        assert get_texts(read(folder)) == ["one"]


# on the Hub


REMOTE = {
    "README.md": CARD.encode(),
    "LICENSE.txt": b"prose",
    "data/train-0.jsonl": line("one").encode(),
    "data/b.csv": b"text\ntwo\n",
    "model.py": b"code",
}


def test_a_data_set_of_the_hub_is_read_with_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_hub("ann/bakers", REMOTE, tmp_path, monkeypatch) as asked:
        rows = documents("hf://datasets/ann/bakers")
        assert not any("model" in path for path in asked)
        listed = list_source("hf://datasets/ann/bakers")
    assert [(row.text, row.license, row.file, row.url) for row in rows] == [
        ("two", "cc-by-4.0", "data/b.csv", "hf://datasets/ann/bakers/data/b.csv#L2"),
        (
            "one",
            "cc-by-4.0",
            "data/train-0.jsonl",
            "hf://datasets/ann/bakers/data/train-0.jsonl#L1",
        ),
    ]
    assert [file.file for file in listed] == ["data/b.csv", "data/train-0.jsonl"]


def test_a_pattern_of_the_hub_is_read_with_the_card_of_its_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_hub("ann/bakers", REMOTE, tmp_path, monkeypatch):
        for pattern in ("data/*.jsonl", "**/*.jsonl", "data/train-0.jsonl"):
            [row] = documents(f"hf://datasets/ann/bakers/{pattern}")
            assert (row.text, row.license, row.language) == ("one", "cc-by-4.0", "fr")


def test_the_revision_main_is_in_no_name_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = b"---\nconfigs:\n- data_files: ['data/*', 'fr/*']\n---\n"
    lines = line("one").encode()
    files = {"README.md": card, "data/p.jsonl": lines, "fr/p.jsonl": lines.replace(b"o", b"u")}
    with serve_hub("ann/main", files, tmp_path, monkeypatch):
        for spec in ("@main", "@main/**/*.jsonl", ""):
            rows = documents(f"hf://datasets/ann/main{spec}")
            assert [row.file for row in rows] == ["data/p.jsonl", "fr/p.jsonl"]
            listed = list_source(f"hf://datasets/ann/main{spec}")
            assert [file.file for file in listed] == ["data/p.jsonl", "fr/p.jsonl"]


def test_files_whose_names_duckdb_misreads_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["j*.jsonl", "data[1].jsonl", "c#d.jsonl", "e?f.jsonl"]
    files = {**dict.fromkeys(names, line("odd").encode()), "jx.jsonl": line("one").encode()}
    with serve_hub("ann/odd", files, tmp_path, monkeypatch):
        rows = read("hf://datasets/ann/odd")
    assert get_texts(rows) == ["one"]
    assert {(row.file, row.reason) for row in get_rejected(rows)} == {
        (name, Reason.UNSUPPORTED_FILE) for name in names
    }


def test_a_card_on_the_hub_may_be_no_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {**REMOTE, "README.md": CARD.encode() + b"\xff"}
    with serve_hub("ann/latin", files, tmp_path, monkeypatch):
        assert {row.license for row in documents("hf://datasets/ann/latin")} == {"cc-by-4.0"}


def test_a_data_set_of_the_hub_may_have_no_card_or_configure_files_of_other_types(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = {name: data for name, data in REMOTE.items() if name != "README.md"}
    with serve_hub("ann/bare", bare, tmp_path, monkeypatch):
        assert {row.license for row in documents("hf://datasets/ann/bare")} == {None}
    configured = {**bare, "README.md": b"---\nconfigs:\n- data_files: model.py\n---\n"}
    with serve_hub("ann/code", configured, tmp_path, monkeypatch) as asked:
        [row] = get_rejected(read("hf://datasets/ann/code"))
    assert (row.file, row.reason) == ("model.py", Reason.UNSUPPORTED_FILE)
    assert not any(path.endswith("/model.py") for path in asked)


def test_a_data_set_that_the_hub_does_not_have_is_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        serve_hub("ann/bakers", REMOTE, tmp_path, monkeypatch),
        pytest.raises(SourceError, match="cannot list hf://datasets/ann/none: "),
    ):
        read("hf://datasets/ann/none")
