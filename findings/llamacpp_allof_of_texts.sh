#!/usr/bin/env bash
# llama.cpp (xllamacpp 2026.10.11549), chat route with a JSON schema: three kinds of schema become a
# grammar of something else, without an error.
#   allOf of {minLength} and {pattern}   -> the empty object alone: no answer can satisfy the schema
#   pattern "^\d{4}$"                    -> any string (classes such as \d are not known)
#   anyOf beside properties              -> the alternatives alone: the properties are gone
# Seen on 2026-11-30 with Python 3.11. The grammar is read from the "__verbose" part of the answer.
# The model is made here, of random numbers: what it writes does not matter.
# Exit status 0: it is still so. 1: it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q xllamacpp==2026.10.11549 gguf==0.19.0 numpy
venv/bin/python - 2>/dev/null <<'PY'
import sys

import gguf
import numpy as np
import xllamacpp

WIDTH, HIDDEN = 32, 64
words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
kinds = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * 256]
writer = gguf.GGUFWriter("random.gguf", "llama")
writer.add_context_length(512)
writer.add_embedding_length(WIDTH)
writer.add_block_count(1)
writer.add_feed_forward_length(HIDDEN)
writer.add_head_count(4)
writer.add_head_count_kv(4)
writer.add_rope_dimension_count(WIDTH // 4)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_tokenizer_model("llama")
writer.add_token_list(words)
writer.add_token_scores([0.0] * len(words))
writer.add_token_types(kinds)
writer.add_bos_token_id(1)
writer.add_eos_token_id(2)
writer.add_chat_template(
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
)
dice = np.random.default_rng(0)
shapes = {
    "token_embd": (len(words), WIDTH), "output": (len(words), WIDTH), "output_norm": (WIDTH,),
    "blk.0.attn_norm": (WIDTH,), "blk.0.ffn_norm": (WIDTH,),
    **{f"blk.0.attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")},
    "blk.0.ffn_gate": (HIDDEN, WIDTH), "blk.0.ffn_up": (HIDDEN, WIDTH),
    "blk.0.ffn_down": (WIDTH, HIDDEN),
}
for name, shape in shapes.items():
    writer.add_tensor(f"{name}.weight", dice.normal(0, 0.1, shape).astype(np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.verbosity = "random.gguf", 512, 10
server = xllamacpp.Server(params)


def rule_of(field):
    """Return the grammar's rule for a field x of this schema."""
    schema = {"type": "object", "properties": {"x": field}, "required": ["x"]}
    answer = server.handle_chat_completions({
        "messages": [{"role": "user", "content": "x"}], "max_tokens": 1, "verbose": True,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
    })
    lines = answer["__verbose"]["generation_settings"]["grammar"].splitlines()
    rules = dict(line.split(" ::= ", 1) for line in lines if " ::= " in line)
    [name] = [name for name in rules if name.endswith("schema-x") or name == "x"] or [None]
    return rules.get(name, "")


text, part = {"type": "string"}, {"type": "object", "properties": {"a": {"type": "string"}}}
seen = {
    "allOf of texts": rule_of({**text, "allOf": [{"minLength": 3}, {"pattern": "^a+$"}]}),
    "pattern [0-9]{4}": rule_of({**text, "pattern": "^[0-9]{4}$"}),
    r"pattern \d{4}": rule_of({**text, "pattern": r"^\d{4}$"}),
    "anyOf beside properties": rule_of({**part, "anyOf": [{"required": ["a"]}]}),
}
for name, rule in seen.items():
    print(f"{name}: {rule}")
is_so = (
    seen["allOf of texts"] == '"{" space "}"'
    and seen["pattern [0-9]{4}"] != "string"
    and seen[r"pattern \d{4}"] == "string"
    and "-a-kv" not in seen["anyOf beside properties"]
)
sys.exit(0 if is_so else 1)
PY
