"""What the stages that buy answers are called: in settings, in the funnel, in `llm.calls`."""

TEXT_TO_PERSONA = "text_to_persona"
PERSONA_TO_PERSONA = "persona_to_persona"
EMBEDDINGS = "embeddings"


def domain_stage(domain: str) -> str:
    """The stage of a domain, which is the name of its table, too."""
    return f"synthetic.{domain}"
