"""The float reference that the evaluation and the golden answers use.

It runs on the weights as shipped: read from the GGUF and dequantised.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import torch

from export import BLOCK
from model import SHAPES, Model


def read(path: Path) -> Model:
    """Loads a shipped file; the sizes must be those of the recipe."""
    reader = gguf.GGUFReader(str(path))
    name = reader.fields["general.name"].contents()
    shape = next(s for s in SHAPES.values() if s.name == name)
    found = {t.name: torch.from_numpy(gguf.quants.dequantize(t.data, t.tensor_type).copy()) for t in reader.tensors}
    state = {"embedding.weight": found["token_embd.weight"], "norm.weight": found["output_norm.weight"]}
    for layer in range(shape.layers):
        for ours, theirs in BLOCK.items():
            state[f"blocks.{layer}.{ours}"] = found[f"blk.{layer}.{theirs}.weight"]
    model = Model(shape)
    model.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def greedy(model: Model, prompt: list[int], end: int, limit: int = 200) -> list[int]:
    """The model's own answer, without the end token; stops at ``limit``."""
    caches, out = model.new_caches(), []
    logits = model(torch.tensor([prompt]), caches, 0)[0, -1]
    while len(out) < limit and len(prompt) + len(out) < model.shape.context - 1:
        token = int(logits.argmax())
        if token == end:
            return out
        out.append(token)
        logits = model(torch.tensor([[token]]), caches, len(prompt) + len(out) - 1)[0, -1]
    return out


@torch.no_grad()
def agreement(draft: Model, prompt: list[int], answer: list[int]) -> list[bool]:
    """Per answer token: would the draft, given the same prefix, say the same?"""
    ids = torch.tensor([prompt + answer])
    guess = draft(ids)[0].argmax(-1)
    first = len(prompt) - 1
    return [int(guess[first + i]) == token for i, token in enumerate(answer)]


def windows(matches: list[bool], size: int = 4) -> list[int]:
    """Accepted tokens of each window when ``size`` are drafted at a time."""
    accepted, at = [], 0
    while at < len(matches):
        run = 0
        while run < size and at + run < len(matches) and matches[at + run]:
            run += 1
        if at + size <= len(matches):  # a window cut off by the end says little
            accepted.append(run)
        at += run + 1
    return accepted
