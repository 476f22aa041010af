"""Mark pages that address a language model instead of a reader. They are never obeyed."""

import re

_PHRASES = re.compile(
    r"""(?ix)
    \b(?:ignore|disregard|forget|override)\s+(?:all\s+|any\s+|the\s+|your\s+|these\s+)*
        (?:previous|prior|above|earlier|preceding|system)\s+
        (?:instructions?|prompts?|rules|messages?|directions)
    | \byou\s+are\s+now\s+(?:a|an|in)\b.{0,40}\b(?:mode|assistant|model|ai)\b
    | \b(?:reveal|print|repeat|show)\s+(?:me\s+)?(?:your|the)\s+(?:system\s+)?prompt\b
    | \bas\s+an?\s+(?:ai|large)\s+(?:language\s+)?(?:model|assistant)\b
    | </?(?:system|assistant|document)\b[^>]{0,40}>
    | <\|(?:im_start|im_end|system|endoftext)\|>
    | \[/?INST\]
    | ^[ \t]*(?:system|assistant)[ \t]*:\s
    """,
    re.MULTILINE,
)


def is_injection_suspected(text: str) -> bool:
    """Return whether the text contains a phrase that is aimed at a model."""
    return _PHRASES.search(text) is not None
