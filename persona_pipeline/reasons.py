"""List the reasons for which a row is rejected or skipped: the values of `reason` columns."""

from enum import StrEnum


class DocumentReason(StrEnum):
    """Reasons for which a text is in `corpus.rejected`."""

    BROKEN_JSON = "broken_json"
    BROKEN_FILE = "broken_file"
    NOT_AN_OBJECT = "not_an_object"
    WRONG_TYPE = "wrong_type"
    MISSING_TEXT = "missing_text"
    INVALID_UTF8 = "invalid_utf8"
    EMPTY = "empty"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    NO_MAIN_TEXT = "no_main_text"
    UNSUPPORTED_FILE = "unsupported_file"
    DUPLICATE = "duplicate"


class SkipReason(StrEnum):
    """Reasons for which a record of a web archive holds no page, in `corpus.skipped`."""

    WARCINFO = "warcinfo"
    REQUEST = "request"
    METADATA = "metadata"
    REVISIT = "revisit"
    CONTINUATION = "continuation"
    UNKNOWN_RECORD = "unknown_record"
    HTTP_STATUS = "http_status"
    CONTENT_TYPE = "content_type"


class PersonaReason(StrEnum):
    """Reasons for which a persona is in `personas.rejected`."""

    CALL_FAILED = "call_failed"
    INVALID_ANSWER = "invalid_answer"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    FIRST_PERSON = "first_person"
    NOT_A_PERSON = "not_a_person"
    LEAKED_INSTRUCTION = "leaked_instruction"
    WRONG_LANGUAGE = "wrong_language"
    REPEATED_NGRAM = "repeated_ngram"
    COPIED_EXAMPLE = "copied_example"


class RecordReason(StrEnum):
    """Reasons for which a record is in `synthetic.rejected`."""

    CALL_FAILED = "call_failed"
    INVALID_ANSWER = "invalid_answer"
    LEAKED_INSTRUCTION = "leaked_instruction"
    REPEATED_NGRAM = "repeated_ngram"
    COPIED_EXAMPLE = "copied_example"
    FAILED_CHECK = "failed_check"
