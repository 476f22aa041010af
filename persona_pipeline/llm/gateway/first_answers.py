"""Stop a stage whose first answers are all unusable for the same reason."""

from collections import Counter
from dataclasses import dataclass, field

from persona_pipeline.llm.answers import NO_ROOM
from persona_pipeline.llm.calls import Answer
from persona_pipeline.llm.errors import ModelError

MOST_WITHOUT_ROOM, MOST_ALIKE = 5, 20
"""Rows that end alike before the stage stops: for thoughts that leave no room, which a setting
mends, and for any other reason, which may lie in the first rows."""


@dataclass(slots=True)
class FirstAnswers:
    """Count the reasons why the first rows of a stage have no answer, until one has."""

    model: str
    stage: str
    has_usable: bool = False
    _reasons: Counter[str] = field(default_factory=Counter)

    def note(self, answer: Answer, *, is_new: bool) -> None:
        """Note how one row ended. `is_new`: whether the answer was just bought.

        Old answers count only where a setting mends them, so that the run can be continued.

        Raises:
            ModelError: no row has a usable answer yet, and so many have failed alike.
        """
        self.has_usable |= answer.status == "ok"
        reason = answer.error or ""
        needs_room = reason.startswith(NO_ROOM)
        if self.has_usable or answer.status != "invalid" or not (is_new or needs_room):
            return
        kind = NO_ROOM if needs_room else reason  # the first row had less room than the others
        self._reasons[kind] += 1
        most = MOST_WITHOUT_ROOM if needs_room else MOST_ALIKE
        if len(self._reasons) == 1 and self._reasons[kind] >= most:
            msg = (
                f"the first {most} answers of model {self.model} in stage {self.stage} are all "
                f"unusable for the same reason: {reason}. Change that, or choose another model, "
                "then run again. What was bought is kept."
            )
            raise ModelError(msg)
