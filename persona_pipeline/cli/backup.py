"""Back up the data directory, and restore it."""

from pathlib import Path

import click

from persona_pipeline.cli.options import data_dir_option, project_from
from persona_pipeline.store.backup import Backup, back_up, restore


@click.command(name="backup")
@click.argument("path", type=click.Path(path_type=Path))
@data_dir_option
def backup_data(path: Path, data_dir: str | None) -> None:
    """Write database, journal and staged shards to PATH (.tar or .tar.gz). No run is blocked."""
    project = project_from({"data_dir": data_dir})
    _print_backup("written", back_up(project.settings, project.database, path))


@click.command(name="restore")
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--replace",
    is_flag=True,
    help="Replace the data that is there. Its folder replaced-TIME keeps the old.",
)
@data_dir_option
def restore_data(path: Path, data_dir: str | None, *, replace: bool) -> None:
    """Put the backup PATH into the data directory."""
    project = project_from({"data_dir": data_dir})
    _print_backup("restored", restore(project.settings, project.database, path, replace=replace))
    click.echo(
        f"It is in {project.settings.data_dir}. To see its shards in Dagster, materialize "
        "corpus/files or run 'persona-pipeline run'."
    )


def _print_backup(what: str, backup: Backup) -> None:
    size = f"{backup.byte_count / 1e6:,.1f} MB"
    click.echo(f"{what}: {backup.path}, {backup.file_count} files, {size}, of {backup.created_at}")
