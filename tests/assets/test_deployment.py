"""Check the files for containers and systemd, as far as it is possible without either."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from dagster._cli import create_dagster_cli
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster._daemon.cli import create_dagster_daemon_cli
from dagster_webserver.cli import create_dagster_webserver_cli

from persona_pipeline.settings import PREFIX, load_settings

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
PAGES = ROOT / "docs" / "how-to"
GUIDE = (PAGES / "deploy.md").read_text(encoding="utf-8")
PROGRAMS: dict[str, Callable[[], click.Command]] = {
    "dagster": create_dagster_cli,
    "dagster-daemon": create_dagster_daemon_cli,
    "dagster-webserver": create_dagster_webserver_cli,
}


def instructions(name: str) -> Iterator[str]:
    """Return what follows an instruction in the Dockerfile, with continued lines joined."""
    lines = re.sub(r"\\\n(\s*#.*\n)*", " ", DOCKERFILE).splitlines()
    return (line.removeprefix(name).strip() for line in lines if line.startswith(f"{name} "))


def copied() -> set[str]:
    """Return the paths that the image copies from the checkout."""
    sources = (line.split()[:-1] for line in instructions("COPY") if "--from" not in line)
    return {path for line in sources for path in line}


def commands() -> dict[str, list[str]]:
    """Return every command that starts or checks a container or service."""
    services = COMPOSE["services"]
    by_place = {name: of["command"] for name, of in services.items() if "command" in of}
    for name, service in services.items():
        program, *arguments = service["healthcheck"].get("test", ["NONE"])
        if program == "CMD":
            by_place[f"{name} health"] = arguments
    for unit in (ROOT / "deploy" / "systemd").iterdir():
        for line in unit.read_text(encoding="utf-8").splitlines():
            if line.startswith("ExecStart"):
                program, *arguments = line.split("=", 1)[1].split()
                by_place[f"{unit.name}: {line}"] = [Path(program).name, *arguments]
    for line in [*instructions("CMD"), *instructions("HEALTHCHECK")]:
        by_place[f"image: {line}"] = yaml.safe_load(line[line.index("[") :])
    return by_place


def parse(command: click.Command, arguments: list[str]) -> None:
    """Read the arguments as the program would, and do nothing."""
    while isinstance(command, click.Group):
        _, subcommand, arguments = command.resolve_command(click.Context(command), arguments)
        assert subcommand is not None
        command = subcommand
    command.make_context(command.name, list(arguments))


@pytest.mark.parametrize("name", commands())
def test_every_command_of_a_container_is_one_that_dagster_understands(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    program, *arguments = commands()[name]
    if program == "python":
        compile(arguments[-1], name, "exec")
        return
    parse(PROGRAMS[program](), arguments)


def test_a_command_with_an_unknown_option_would_be_noticed() -> None:
    with pytest.raises(click.NoSuchOption):
        parse(PROGRAMS["dagster"](), ["api", "grpc", "--prot", "4000"])


def test_everything_that_the_image_copies_is_there_and_not_ignored() -> None:
    assert {"assets", "sql", "persona_pipeline", "requirements.lock"} <= copied()
    assert [path for path in copied() if not (ROOT / path).exists()] == []
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in allowed
    assert {path.split("/")[0] for path in copied()} == {
        line.removeprefix("!") for line in allowed if line.startswith("!")
    }


def test_dependencies_are_installed_by_hash_and_before_the_code() -> None:
    install = DOCKERFILE.index("--constraint requirements.lock")
    assert install < DOCKERFILE.index("COPY persona_pipeline")
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = re.findall(r"^[\w.-]+(?:\[.*\])?==.*\\\n +--hash=sha256:", lock, re.MULTILINE)
    assert len(pinned) == len(re.findall(r"^[\w.-]+.*==", lock, re.MULTILINE))


def test_the_image_runs_as_nobody_special_and_hands_signals_to_its_runs() -> None:
    [user] = instructions("USER")
    assert int(user.split(":")[0]) > 0
    [entry] = instructions("ENTRYPOINT")
    assert yaml.safe_load(entry)[:2] == ["tini", "-g"]


def environment(lines: Sequence[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for line in lines for word in shlex.split(line))


def test_no_secret_is_in_the_image_or_in_the_compose_file() -> None:
    assert not re.search(r"password|secret|api_key|token", DOCKERFILE, re.IGNORECASE)
    for service in COMPOSE["services"].values():
        for name, value in service["environment"].items():
            if "PASSWORD" in name:
                assert value.startswith("${")


def test_the_settings_and_variables_of_the_containers_exist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variables = environment(list(instructions("ENV"))) | COMPOSE["services"]["code"]["environment"]
    for name, value in variables.items():
        if name.startswith(PREFIX):
            monkeypatch.setenv(name, value)
    assert load_settings().data_dir == Path("/data")  # and no variable is unknown

    file = yaml.safe_load((ROOT / "deploy" / "dagster.postgres.yaml").read_text(encoding="utf-8"))
    assert set(re.findall(r"'env': '(\w+)'", str(file))) <= variables.keys()


def test_the_code_server_is_found_where_webserver_and_daemon_look_for_it() -> None:
    path = str(ROOT / "deploy" / "workspace.docker.yaml")
    [origin] = location_origins_from_yaml_paths([path])
    assert isinstance(origin, GrpcServerCodeLocationOrigin)
    command = COMPOSE["services"][origin.host]["command"]
    assert str(origin.port) == command[command.index("-p") + 1]
    for service in ("webserver", "daemon"):
        assert "deploy/workspace.docker.yaml" in COMPOSE["services"][service]["command"]


def test_every_service_waits_for_what_it_needs_and_says_how_it_is() -> None:
    services: dict[str, dict[str, Any]] = COMPOSE["services"]
    for name, service in services.items():
        assert service["healthcheck"], name
        assert service["restart"] in {"unless-stopped", "no"}, name
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services
            is_checked = "test" in services[needed]["healthcheck"]
            assert is_checked == (how["condition"] == "service_healthy"), name
    volumes = {volume.split(":")[0] for of in services.values() for volume in of["volumes"]}
    assert volumes == COMPOSE["volumes"].keys()


def test_the_guide_names_only_files_that_are_there() -> None:
    named = set(re.findall(r"(?:deploy|tests)/[\w./-]+\w|[\w.]+\.(?:yaml|md)\b", GUIDE))
    assert len(named) > 4
    there = {name for name in named if (ROOT / name).exists() or (PAGES / name).exists()}
    assert named == there


def test_a_run_builds_the_code_location_of_its_own_options_only() -> None:
    code = "import sys, assets.main_job; sys.exit('assets.definitions' in sys.modules)"
    environment = os.environ | {"PERSONA_PIPELINE_DOMAINS": "a typo that an option mends"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0
