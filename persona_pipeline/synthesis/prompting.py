"""How examples are shown to a model: apart from domains, since settings name it."""

from enum import StrEnum


class Prompting(StrEnum):
    """How examples are shown (report, section 3: its three ways of persona-driven prompting)."""

    ZERO_SHOT = "zero_shot"
    FEW_SHOT = "few_shot"
    PERSONA_FEW_SHOT = "persona_few_shot"
