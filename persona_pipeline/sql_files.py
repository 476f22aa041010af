"""Where the SELECT statements are: beside the package in a wheel, above it in a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).parent
_FOLDERS = (_PACKAGE / "sql", _PACKAGE.parent / "sql")


def read_sql(name: str) -> str:
    """The text of `sql/<name>.sql`, for example `read_sql("dedup/words")`."""
    for folder in _FOLDERS:
        path = folder / f"{name}.sql"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    places = " or ".join(str(folder) for folder in _FOLDERS)
    message = f"no SQL file {name!r}: looked for {name}.sql in {places}"
    raise FileNotFoundError(message)


def sql_names(folder: str) -> list[str]:
    """The names of the SQL files in `sql/<folder>/`, sorted."""
    found = next((parent / folder for parent in _FOLDERS if (parent / folder).is_dir()), None)
    return sorted(f"{folder}/{path.stem}" for path in found.glob("*.sql")) if found else []
