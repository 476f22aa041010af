"""Read the packaged Wikipedia lead sections, the corpus that users need not bring."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.rows import Place, RawText, Row, build_row
from persona_pipeline.errors import SourceError
from persona_pipeline.hashing import stable_id
from persona_pipeline.reasons import DocumentReason

LANGUAGES = ("en", "es", "fr")
LICENSE = "CC BY-SA 4.0"


def read_wikipedia(language: str, options: CorpusOptions) -> Iterator[Row]:
    """Yield the leads of one language, fetched on first use."""
    from persona_pipeline.artifacts.packages import wikipedia_leads  # noqa: PLC0415 - other sources need no artifact

    return read_leads(wikipedia_leads(language), language, options)


def read_leads(path: Path, language: str, options: CorpusOptions) -> Iterator[Row]:
    """Yield the leads in a JSON file, ordered by a hash of their titles.

    So any prefix is a fair sample, though the file itself is sorted by topic. `line` is the
    position in the file, from 1.
    """
    try:
        leads = json.loads(path.read_bytes())
    except ValueError as error:
        message = f"the Wikipedia leads in {path} are not JSON: {error}; remove it and run again"
        raise SourceError(message) from error
    numbered = [(title, number, lead) for number, (title, lead) in enumerate(leads.items(), 1)]
    place = Place(f"wikipedia:{language}", path.name, path.absolute().as_uri())
    for title, number, lead in sorted(numbered, key=lambda entry: stable_id(entry[0])):
        raw = _find_lead(title, number, lead, language)
        if raw is None:
            detail = f"the lead {title!r} has no extract"
            yield place.reject(DocumentReason.MISSING_TEXT, detail, number)
        else:
            yield build_row(raw, place, options)


def _find_lead(title: str, number: int, lead: object, language: str) -> RawText | None:
    extract = lead.get("extract") if isinstance(lead, dict) else None
    if not isinstance(lead, dict) or not isinstance(extract, str):
        return None
    # The key is the name in the topic list; "title" is the name in Wikipedia.
    name = str(lead.get("title") or title)
    url = f"https://{language}.wikipedia.org/wiki/{quote(name.replace(' ', '_'))}"
    topic = lead.get("topic")
    return RawText(
        extract, number, url, language, LICENSE, name, topic if isinstance(topic, str) else None
    )
