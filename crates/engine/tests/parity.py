"""Compares the engine's logits with an independent numpy implementation of the Llama, Qwen2 and Qwen3 layouts.

Run by hand: it needs numpy and tokenizers.
    cargo build -p cocoon-engine --example logits
    python crates/engine/tests/parity.py models/cocoon-tiny target/debug/examples/logits
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer


def load(path):
    raw = path.read_bytes()
    n = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + n]), raw[8 + n :]
    header.pop("__metadata__", None)
    out = {}
    for name, t in header.items():
        part = data[slice(*t["data_offsets"])]
        if t["dtype"] == "BF16":
            x = (np.frombuffer(part, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            x = np.frombuffer(part, {"F32": np.float32, "F16": np.float16}[t["dtype"]])
        out[name] = x.astype(np.float64).reshape(t["shape"])
    return out


def norm(x, w, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w


def forward(c, w, ids):
    heads, kv, dim, eps = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"], c["rms_norm_eps"]
    t = len(ids)
    x = w["model.embed_tokens.weight"][ids]
    angle = np.arange(t)[:, None] * c["rope_theta"] ** (-np.arange(0, dim, 2) / dim)[None]
    cos, sin = (np.concatenate([f(angle)] * 2, -1)[:, None] for f in (np.cos, np.sin))

    def rope(y):
        half = np.concatenate([-y[..., dim // 2 :], y[..., : dim // 2]], -1)
        return y * cos + half * sin

    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        h = norm(x, w[p + "input_layernorm.weight"], eps)

        def project(part, n):
            y = h @ w[f"{p}self_attn.{part}_proj.weight"].T + w.get(f"{p}self_attn.{part}_proj.bias", 0)
            y = y.reshape(t, n, dim)
            scale = w.get(f"{p}self_attn.{part}_norm.weight")
            return y if scale is None else norm(y, scale, eps)

        q, k, v = rope(project("q", heads)), rope(project("k", kv)), project("v", kv)
        out = np.zeros((t, heads, dim))
        for head in range(heads):
            g = head // (heads // kv)
            s = q[:, head] @ k[:, g].T / np.sqrt(dim)
            s[np.triu_indices(t, 1)] = -np.inf
            s = np.exp(s - s.max(-1, keepdims=True))
            out[:, head] = s / s.sum(-1, keepdims=True) @ v[:, g]
        x = x + out.reshape(t, heads * dim) @ w[p + "self_attn.o_proj.weight"].T
        h = norm(x, w[p + "post_attention_layernorm.weight"], eps)
        gate = h @ w[p + "mlp.gate_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w[p + "mlp.up_proj.weight"].T)) @ w[p + "mlp.down_proj.weight"].T
    x = norm(x, w["model.norm.weight"], eps)
    return x @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T


model, binary = Path(sys.argv[1]), sys.argv[2]
config = json.loads((model / "config.json").read_text())
weights = load(model / "model.safetensors")
tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
worst = 0
for text in ["<|im_start|>user\nWhat is 7 + 8?<|im_end|>\n<|im_start|>assistant\n7 + 8 = 15.", "Once upon a time " * 20]:
    ids = tokenizer.encode(text).ids
    ours = np.array(json.loads(subprocess.check_output([binary, str(model), *map(str, ids)])))
    theirs = forward(config, weights, ids)
    worst = max(worst, np.abs(ours - theirs).max())
    assert (ours.argmax(-1) == theirs.argmax(-1)).all(), "another likeliest token"
print(f"largest difference of a logit: {worst:.2e}, largest logit {np.abs(theirs).max():.1f}")
assert worst < 1e-3
