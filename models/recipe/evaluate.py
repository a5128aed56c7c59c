"""Held-out figures of the two shipped files, as one JSON and one table."""

from __future__ import annotations

import argparse
import json
import math
import re
from collections import defaultdict
from pathlib import Path

import torch
import torch.nn.functional as F

import batches
import tokenizer
from corpus import mix
from corpus.sampler import Sampler
from reference import agreement, greedy, read, windows

PLACEHOLDER = re.compile(r"PII_(?:EMAIL|PHONE|CARD|IBAN|IP|SECRET)_[0-9A-HJKMNP-TV-Z]{6}")


@torch.no_grad()
def perplexity(model, codec, documents) -> tuple[float, int]:
    """Negative log-likelihood of the assistant's tokens, and their number."""
    loss, count = 0.0, 0
    for messages in documents:
        ids, weights = batches.encode(codec, messages)
        ids, weights = ids[: model.shape.context], weights[: model.shape.context]
        keep = torch.tensor(weights[1:]) == 1.0
        logits = model(torch.tensor([ids[:-1]]))[0][keep]
        loss += F.cross_entropy(logits, torch.tensor(ids[1:])[keep], reduction="sum").item()
        count += int(keep.sum())
    return loss, count


def questions(messages):
    """The last turn of a document as (prompt, expected answer)."""
    return messages[:-1], messages[-1]["content"]


def measure(target, draft, codec, task: str, count: int, seed: int, misses: list) -> dict:
    sampler = Sampler(seed, held_out=True)
    documents = [mix.document(sampler, task) for _ in range(count)]
    row = defaultdict(float)
    row["documents"] = count
    for name, model in (("target", target), ("draft", draft)):
        loss, tokens = perplexity(model, codec, documents)
        row[f"{name}_loss"], row["tokens"] = loss, tokens
    matched = proposed = 0
    accepted: list[int] = []
    for messages in documents:
        prompt, expected = questions(messages)
        ids = codec.chat(prompt)
        if len(ids) > target.shape.context - 150:
            continue
        row["asked"] += 1
        wanted = PLACEHOLDER.findall(expected)
        row["placeholders"] += len(wanted)
        for name, model in (("target", target), ("draft", draft)):
            answer = greedy(model, ids, codec.end)
            text = codec.decode(answer)
            row[f"{name}_exact"] += text == expected
            given = PLACEHOLDER.findall(text)
            row[f"{name}_copied"] += sum(p in given for p in wanted)
            if text != expected and len(misses) < 400:
                misses.append({"task": task, "model": name, "prompt": prompt, "expected": expected, "answer": text})
            if name == "target":
                matches = agreement(draft, ids, answer + [codec.end])
                matched, proposed = matched + sum(matches), proposed + len(matches)
                accepted += windows(matches)
    row["agree"], row["agree_of"] = matched, proposed
    row["windows"], row["accepted"] = len(accepted), sum(accepted)
    return dict(row)


def summary(row: dict) -> dict:
    def ratio(a, b):
        return round(row[a] / row[b], 4) if row.get(b) else None
    return {
        "documents": int(row["documents"]), "perplexity_target": round(math.exp(row["target_loss"] / row["tokens"]), 4),
        "perplexity_draft": round(math.exp(row["draft_loss"] / row["tokens"]), 4),
        "exact_target": ratio("target_exact", "asked"), "exact_draft": ratio("draft_exact", "asked"), "placeholders": int(row["placeholders"]),
        "copied_target": ratio("target_copied", "placeholders"), "copied_draft": ratio("draft_copied", "placeholders"),
        "agreement": ratio("agree", "agree_of"), "accepted_per_window_of_4": ratio("accepted", "windows"),
    }


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--work", type=Path, required=True)
    p.add_argument("--models", type=Path, required=True)
    p.add_argument("--count", type=int, default=60, help="held-out documents per task")
    p.add_argument("--seed", type=int, default=990_001)
    p.add_argument("--misses", type=Path)
    a = p.parse_args()
    torch.set_num_threads(1)
    codec = tokenizer.load(a.work / "tokenizer.json")
    target, draft = (read(a.models / f"obsidian-{m}.gguf") for m in ("target", "draft"))
    rows, total, misses = {}, defaultdict(float), []
    columns = None
    for index, task in enumerate(mix.TASKS):
        count = max(5, a.count // 4) if task == "long" else a.count
        row = measure(target, draft, codec, task, count, a.seed + index, misses)
        for key, value in row.items():
            total[key] += value
        rows[task] = summary(row)
        if columns is None:
            columns = list(rows[task])
            print("| task | " + " | ".join(columns) + " |\n|" + " --- |" * (len(columns) + 1))
        print(f"| {task} | " + " | ".join(str(rows[task][c]) for c in columns) + " |", flush=True)
    rows["all"] = summary(total)
    print("| all | " + " | ".join(str(rows["all"][c]) for c in columns) + " |")
    (a.work / "evaluation.json").write_text(json.dumps(rows, indent=1))
    if a.misses:
        a.misses.write_text(json.dumps(misses, indent=1))


if __name__ == "__main__":
    main()
