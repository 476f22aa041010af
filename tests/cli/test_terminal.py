"""What the library warns of is shown while a run goes on."""

import logging
from io import StringIO

from rich.console import Console

from persona_pipeline.cli.terminal import showing_warnings


def test_warnings_of_the_library_are_shown_whole_and_once() -> None:
    output, log = StringIO(), logging.getLogger("persona_pipeline.corpus.any")
    with showing_warnings(Console(file=output, width=40)):
        log.warning("a card that %s", "cannot be read, and more words than one line has")
        log.info("nothing to worry about")
    log.warning("later")
    shown = "a card that cannot be read, and more words than one line has\n"
    assert output.getvalue() == shown
