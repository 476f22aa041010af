#!/usr/bin/env bash
# LiteLLM 1.106.2: completion(max_retries=0) sends one request, embedding(max_retries=0) three: 0 is
# taken for "not given", and the OpenAI client's own default of 2 retries holds. A server that answers
# 500 after it has worked is asked, and may bill, three times.
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
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import litellm

asked = []


class Failing(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        asked.append(self.path)
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Failing)
threading.Thread(target=server.serve_forever, daemon=True).start()
litellm.suppress_debug_info = True
endpoint = {"api_base": f"http://127.0.0.1:{server.server_port}/v1", "api_key": "none"}
calls = {
    "completion": lambda: litellm.completion(
        "openai/m", [{"role": "user", "content": "x"}], max_retries=0, **endpoint
    ),
    "embedding": lambda: litellm.embedding("openai/m", ["x"], max_retries=0, **endpoint),
}
seen = {}
for name, call in calls.items():
    asked.clear()
    try:
        call()
    except Exception as error:
        print(name, "raised", type(error).__name__, "after", len(asked), "request(s)")
    seen[name] = len(asked)
sys.exit(0 if seen == {"completion": 1, "embedding": 3} else 1)
PY
