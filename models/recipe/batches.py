"""Endless batches written on the fly: generation is cheaper than reading."""

from __future__ import annotations

import torch

from corpus import mix
from corpus.conversation import pair
from corpus.nonsense import Nonsense
from corpus.sampler import Sampler
from tokenizer import Codec

PROMPT_WEIGHT = 0.1
NONSENSE_SHARE = (0.4, 0.2)  # while copying is learnt, afterwards
PAD = 0


def encode(codec: Codec, messages: list[dict]) -> tuple[list[int], list[float]]:
    """Ids and, per id, how much its prediction counts."""
    ids, weights = [], []
    for m in messages:
        head = [codec.start, *codec.encode(m["role"] + "\n")]
        body = [*codec.encode(m["content"]), codec.end]
        weight = 1.0 if m["role"] == "assistant" else PROMPT_WEIGHT
        ids += head + body + [codec.newline]
        weights += [PROMPT_WEIGHT] * len(head) + [weight] * len(body) + [PROMPT_WEIGHT]
    return ids, weights


def batches(codec: Codec, seed: int, phase, tokens: int, context: int):
    """Yields (ids, targets, weights); documents of similar length together.

    ``phase`` is a callable, so that the curriculum may follow the clock.
    """
    sampler, nonsense = Sampler(seed), Nonsense(codec.tokens)
    while True:
        pool = []
        for _ in range(1200):
            if sampler.chance(NONSENSE_SHARE[phase()]):
                messages = pair(*nonsense.pair(sampler))
            else:
                messages = mix.draw(sampler, phase())[1]
            ids, weights = encode(codec, messages)
            pool.append((ids[: context + 1], weights[: context + 1]))
        pool.sort(key=lambda d: len(d[0]))
        groups, group = [], []
        for document in pool:
            if group and len(document[0]) * (len(group) + 1) > tokens:
                groups.append(group)
                group = []
            group.append(document)
        for group in sampler.shuffled(groups):
            yield collate(group)


def collate(group):
    width = max(len(ids) for ids, _ in group) - 1
    shape = (len(group), width)
    x, y, w = torch.full(shape, PAD), torch.full(shape, PAD), torch.zeros(shape)
    for row, (ids, weights) in enumerate(group):
        n = len(ids) - 1
        x[row, :n] = torch.tensor(ids[:-1])
        y[row, :n] = torch.tensor(ids[1:])
        w[row, :n] = torch.tensor(weights[1:])
    return x, y, w
