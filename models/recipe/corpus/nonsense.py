"""Copying with made-up words, so that every token learns to be copied.

Ordinary text shows a rare token too seldom for its embedding to take part in
copying. Here words are glued from the vocabulary's own pieces, evenly.
"""

from __future__ import annotations

import json

from .formatting import LAYOUTS
from .sampler import Sampler, listing


class Nonsense:
    def __init__(self, tokens: list[str]):
        self.heads = [t[1:] for t in tokens if t[0] == "Ġ" and t[1:].isascii() and t[1:].isalpha()]
        self.tails = [t for t in tokens if t.isascii() and t.isalpha() and t.islower()]

    def word(self, s: Sampler) -> str:
        form = s.number(0, 9)
        if form < 6:
            return s.pick(self.heads)
        if form == 6:
            return s.code() if s.chance(.5) else s.placeholder()
        return s.pick(self.heads) + s.pick(self.tails) + (s.pick(self.tails) if form == 9 else "")

    def words(self, s: Sampler, low: int, high: int) -> str:
        return " ".join(self.word(s) for _ in range(s.number(low, high)))

    def pair(self, s: Sampler) -> tuple[str, str]:
        form = s.number(0, 9)
        if form < 4:
            x = self.words(s, 3, 16)
            return s.pick(["Repeat: {x}", "Copy: {x}", "Say: {x}", "Repeat \"{x}\"", "Echo {x}", "Copy this exactly: {x}"]).replace("{x}", x), x
        items = list({self.words(s, 1, 2): None for _ in range(s.number(2, 6))})
        if form < 7:
            names, render = LAYOUTS[s.pick([k for k in LAYOUTS if k != "sentence"])]
            text = s.pick([", ".join(items), listing(items), "\n".join("- " + i for i in items)])
            return s.pick(["Format as {l}: {x}", "Make {l}: {x}", "Turn this into {l}:\n{x}", "{x}\nMake {l}."]).replace("{l}", s.pick(names)).replace("{x}", text), render(items)
        facts = {i: self.words(s, 1, 2) for i in items}
        asked = s.pick(items)
        if form == 7:
            text = ", ".join(f"{k}: {v}" for k, v in facts.items())
            keys = s.shuffled(items)[: s.number(1, len(items))]
            return f"Extract {', '.join(keys)} as JSON: {text}", json.dumps({k: facts[k] for k in keys}, ensure_ascii=False)
        text = " ".join(f"The {k} is {v}." for k, v in facts.items())
        question = f"What is the {asked}?"
        return s.pick([f"{text} {question}", f"Context: {text}\nQuestion: {question}", f"{question}\n{text}"]), f"The {asked} is {facts[asked]}."
