"""Trains one model until a moment on the clock, whatever the machine's load.

Warm-up, constant rate, then a linear decay that ends at the deadline. With a
teacher the loss is the divergence from the teacher's distribution, which
makes the draft agree with its target rather than with the data alone.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import batches
import optimizer
import tokenizer
from model import SHAPES, Model

WARM_UP_STEPS = 30


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("model", choices=SHAPES)
    p.add_argument("--work", type=Path, required=True, help="folder of tokenizer.json and checkpoints")
    p.add_argument("--minutes", type=float, required=True, help="wall time from now")
    p.add_argument("--decay-minutes", type=float, required=True)
    p.add_argument("--copy-tokens", type=float, default=1.5e6, help="length of the copy curriculum")
    p.add_argument("--tokens", type=int, default=3072, help="padded tokens per step")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--teacher", type=Path, help="checkpoint of the target")
    p.add_argument("--resume", type=Path)
    return p.parse_args()


def save(path: Path, model, optimisers, seen: int, seconds: float):
    state = {"model": model.state_dict(), "optimisers": [o.state_dict() for o in optimisers], "tokens": seen, "seconds": seconds}
    torch.save(state, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def load_model(name: str, path: Path) -> Model:
    model = Model(SHAPES[name])
    model.load_state_dict(torch.load(path, weights_only=True)["model"])
    return model.eval()


def thin(w):
    """Keeps a quarter of the prompt's rows at four times the weight.

    The projection onto the vocabulary is a fifth of a step, and most of it
    would be spent on rows that hardly count.
    """
    light = (w > 0) & (w < 1)
    return torch.where(light, w * 4 * (torch.rand_like(w) < 0.25), w)


def loss_of(model, teacher, x, y, w):
    """Cross-entropy or divergence over the rows that count."""
    w = thin(w)
    rows = w.flatten().nonzero().squeeze(1)
    weights = w.flatten()[rows]
    with torch.autocast("cpu", torch.bfloat16):
        states = model.features(x).flatten(0, 1)[rows]
        logits = F.linear(states, model.embedding.weight).float()
        truth = F.cross_entropy(logits, y.flatten()[rows], reduction="none")
        if teacher is None:
            return (truth * weights).sum() / weights.sum()
        with torch.no_grad():
            goal = F.linear(teacher.features(x).flatten(0, 1)[rows], teacher.embedding.weight).float()
    divergence = F.kl_div(logits.log_softmax(-1), goal.log_softmax(-1), log_target=True, reduction="none").sum(-1)
    return ((0.9 * divergence + 0.1 * truth) * weights).sum() / weights.sum()


def main():
    a = arguments()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    codec = tokenizer.load(a.work / "tokenizer.json")
    model = Model(SHAPES[a.model])
    optimisers = optimizer.build(model)
    seen, before = 0, 0.0
    if a.resume:
        state = torch.load(a.resume, weights_only=True)
        model.load_state_dict(state["model"])
        for o, s in zip(optimisers, state["optimisers"]):
            o.load_state_dict(s)
        seen, before = state["tokens"], state["seconds"]
    teacher = load_model("target", a.teacher) if a.teacher else None
    start = time.monotonic()
    first = seen
    stream = batches.batches(codec, a.seed + seen, lambda: int(seen >= a.copy_tokens), a.tokens, SHAPES[a.model].context)
    checkpoint, saved, average, step = a.work / f"{a.model}.pt", start, None, 0
    while (elapsed := time.monotonic() - start) < a.minutes * 60:
        left = a.minutes * 60 - elapsed
        rate = min(1.0, (step + 1) / WARM_UP_STEPS, max(0.02, left / (a.decay_minutes * 60)))
        x, y, w = next(stream)
        loss = loss_of(model, teacher, x, y, w)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.ndim == 1 or p is model.embedding.weight], 1.0)
        for o in optimisers:
            for group in o.param_groups:
                group["lr"] = group["base"] * rate
            o.step()
            o.zero_grad()
        seen, step = seen + int((w > 0).sum()), step + 1
        average = loss.item() if average is None else 0.97 * average + 0.03 * loss.item()
        if step % 25 == 0:
            speed = (seen - first) / max(1e-9, elapsed)
            print(f"{time.strftime('%H:%M:%S')} step {step} tokens {seen/1e6:.2f}M loss {average:.4f} rate {rate:.3f} minutes {elapsed/60:.1f} tok/s {speed:.0f}", flush=True)
        if time.monotonic() - saved > 180:
            save(checkpoint, model, optimisers, seen, before + elapsed)
            saved = time.monotonic()
    save(checkpoint, model, optimisers, seen, before + time.monotonic() - start)


if __name__ == "__main__":
    main()
