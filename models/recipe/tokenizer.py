"""Byte-level BPE with the Qwen2 split, trained so that codes stay characters.

A placeholder's six characters must become six tokens every time, otherwise a
tiny model cannot learn to copy them. Learnt merges therefore never join two
capitals (capital runs are removed from the training text); the few joined
capitals below all contain I, L, O or U, which Crockford's alphabet lacks.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from chat import SPECIALS, render
from corpus import mix
from corpus.sampler import Sampler

VOCABULARY = 2048
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
BY_HAND = [("I", "I"), ("P", "II"), ("Ġ", "PII"), ("I", "L"), ("A", "IL"), ("M", "AIL"), ("E", "MAIL"), ("_", "EMAIL"), ("H", "O"), ("P", "HO"), ("PHO", "N"),
           ("PHON", "E"), ("_", "PHONE"), ("I", "B"), ("IB", "A"), ("IBA", "N"), ("_", "IBAN"), ("Ġ", "IBAN"), ("I", "P"), ("_", "IP"), ("Ġ", "IP"), ("S", "O"), ("J", "SO"),
           ("JSO", "N"), ("Ġ", "JSON"), ("O", "P"), ("P", "OP"), ("Ġ", "POP")]
CAPITAL_RUN = re.compile(r"[A-Z_]*[A-Z]{2,}[A-Z0-9_]*")


def splitter():
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])


def training_text(documents: int):
    sampler = Sampler(20_000_003)
    for _ in range(documents):
        _, messages = mix.draw(sampler, 1)
        for message in messages:
            yield CAPITAL_RUN.sub(" ", message["content"])


def train(documents: int) -> dict:
    """The vocabulary (list of tokens), the merges and the special ids."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = splitter()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    size = VOCABULARY - len(SPECIALS) - len(BY_HAND)
    learner.train_from_iterator(training_text(documents), trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, show_progress=False, min_frequency=2))
    learnt = [tuple(m) for m in json.loads(learner.to_str())["model"]["merges"]]
    merges = BY_HAND + learnt
    tokens = alphabet + ["".join(m) for m in merges] + SPECIALS
    assert len(set(tokens)) == len(tokens) == VOCABULARY, (len(set(tokens)), len(tokens))
    return {"tokens": tokens, "merges": [" ".join(m) for m in merges]}


class Codec:
    """Text to ids and back; specials are ids only when asked for."""

    def __init__(self, table: dict):
        self.tokens, self.merges = table["tokens"], table["merges"]
        vocabulary = {t: i for i, t in enumerate(self.tokens)}
        merges = [tuple(m.split(" ")) for m in self.merges]
        plain = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
        plain.pre_tokenizer, plain.decoder = splitter(), decoders.ByteLevel()
        self.plain, self.parsing = plain, Tokenizer.from_str(plain.to_str())
        self.parsing.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIALS])
        self.end_of_text, self.start, self.end = (vocabulary[t] for t in SPECIALS)
        self.newline = self.encode("\n")[0]

    def encode(self, text: str, parse_special: bool = False) -> list[int]:
        return (self.parsing if parse_special else self.plain).encode(text, add_special_tokens=False).ids

    def decode(self, ids) -> str:
        return self.plain.decode(list(ids), skip_special_tokens=False)

    def chat(self, messages: list[dict]) -> list[int]:
        """A prompt ready for the assistant; user text cannot forge specials."""
        ids = []
        for m in messages:
            ids += [self.start, *self.encode(f"{m['role']}\n{m['content']}"), self.end, self.newline]
        return ids + [self.start, *self.encode("assistant\n")]


def load(path: str | Path) -> Codec:
    codec = Codec(json.loads(Path(path).read_text()))
    sample = [{"role": "user", "content": "Hi, PII_EMAIL_7K3QX9!"}]
    assert codec.chat(sample) == codec.encode(render(sample), parse_special=True)
    return codec


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(train(int(sys.argv[2]) if len(sys.argv) > 2 else 60_000), ensure_ascii=False))
