#!/usr/bin/env bash
# LiteLLM 1.106.2: a finish_reason that it does not know becomes "stop". So an answer that a provider
# broke off ("error" of OpenRouter, "abort" of vLLM) looks like one that the model ended itself.
# The provider's own word is left in provider_specific_fields["native_finish_reason"] only.
# Seen on 2026-11-30 with Python 3.11.
# Exit status 0: it is still so. 1: it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q litellm==1.106.2
LITELLM_LOCAL_MODEL_COST_MAP=True venv/bin/python - <<'PY'
import sys

from litellm.litellm_core_utils.core_helpers import map_finish_reason
from litellm.types.utils import Choices, Message

seen = {reason: map_finish_reason(reason) for reason in ("length", "error", "abort", "anything")}
choice = Choices(finish_reason="error", message=Message(content=""))
print("mapped:", seen)
print("a choice with finish_reason='error' says:", choice.finish_reason)
print("and keeps:", choice.provider_specific_fields)
kept = (choice.provider_specific_fields or {}).get("native_finish_reason")
unknown = {seen[reason] for reason in ("error", "abort", "anything")}
is_so = unknown == {"stop"} and choice.finish_reason == "stop" and kept == "error"
sys.exit(0 if is_so else 1)
PY
