"""Writes a checkpoint as GGUF with Q8_0 matrices."""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf_write as g
import tokenizer
from chat import SPECIALS, TEMPLATE
from model import Model, Shape
from train import load_model

BLOCK = {"attention_norm.weight": "attn_norm", "attention.q.weight": "attn_q", "attention.k.weight": "attn_k",
         "attention.v.weight": "attn_v", "attention.o.weight": "attn_output", "feed_norm.weight": "ffn_norm",
         "gate.weight": "ffn_gate", "up.weight": "ffn_up", "down.weight": "ffn_down"}


def tensors(model: Model):
    """Our names to GGUF's; rotary pairs are adjacent, so nothing is permuted."""
    state = {k: v.detach().float().numpy() for k, v in model.state_dict().items()}
    yield "token_embd.weight", state["embedding.weight"]
    for layer in range(model.shape.layers):
        for ours, theirs in BLOCK.items():
            yield f"blk.{layer}.{theirs}.weight", state[f"blocks.{layer}.{ours}"]
    yield "output_norm.weight", state["norm.weight"]


def metadata(shape: Shape, codec: tokenizer.Codec) -> list[tuple]:
    kinds = [3 if t in SPECIALS else 1 for t in codec.tokens]
    return [
        ("general.architecture", g.STRING, "llama"),
        ("general.name", g.STRING, shape.name),
        ("general.license", g.STRING, "Apache-2.0"),
        ("general.description", g.STRING, "Small edge assistant trained by the Obsidian project on synthetic text."),
        ("general.file_type", g.UINT32, 7),
        ("general.quantization_version", g.UINT32, 2),
        ("general.alignment", g.UINT32, g.ALIGNMENT),
        ("llama.context_length", g.UINT32, shape.context),
        ("llama.embedding_length", g.UINT32, shape.width),
        ("llama.block_count", g.UINT32, shape.layers),
        ("llama.feed_forward_length", g.UINT32, shape.hidden),
        ("llama.attention.head_count", g.UINT32, shape.heads),
        ("llama.attention.head_count_kv", g.UINT32, shape.kv_heads),
        ("llama.attention.layer_norm_rms_epsilon", g.FLOAT32, shape.epsilon),
        ("llama.rope.dimension_count", g.UINT32, shape.head_width),
        ("llama.rope.freq_base", g.FLOAT32, shape.rope_base),
        ("llama.vocab_size", g.UINT32, shape.vocab),
        ("tokenizer.ggml.model", g.STRING, "gpt2"),
        ("tokenizer.ggml.pre", g.STRING, "qwen2"),
        ("tokenizer.ggml.tokens", (g.ARRAY, g.STRING), codec.tokens),
        ("tokenizer.ggml.token_type", (g.ARRAY, g.INT32), kinds),
        ("tokenizer.ggml.merges", (g.ARRAY, g.STRING), codec.merges),
        ("tokenizer.ggml.bos_token_id", g.UINT32, codec.end_of_text),
        ("tokenizer.ggml.eos_token_id", g.UINT32, codec.end),
        ("tokenizer.ggml.padding_token_id", g.UINT32, codec.end_of_text),
        ("tokenizer.ggml.add_bos_token", g.BOOL, False),
        ("tokenizer.chat_template", g.STRING, TEMPLATE),
    ]


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("model")
    p.add_argument("--work", type=Path, required=True)
    p.add_argument("--checkpoint", type=Path)
    p.add_argument("--out", type=Path, required=True)
    a = p.parse_args()
    model = load_model(a.model, a.checkpoint or a.work / f"{a.model}.pt")
    codec = tokenizer.load(a.work / "tokenizer.json")
    g.write(a.out, metadata(model.shape, codec), list(tensors(model)))
    print(a.out.name, a.out.stat().st_size, "bytes,", model.parameter_count(), "parameters")


if __name__ == "__main__":
    main()
