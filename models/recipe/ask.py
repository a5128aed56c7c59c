"""Asks a shipped model from the command line; one user message per argument."""

from __future__ import annotations

import argparse
from pathlib import Path

import tokenizer
from reference import greedy, read


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--work", type=Path, required=True)
    p.add_argument("--gguf", type=Path, required=True)
    p.add_argument("--separate", action="store_true", help="each message opens a conversation of its own")
    p.add_argument("messages", nargs="+")
    a = p.parse_args()
    codec, model, history = tokenizer.load(a.work / "tokenizer.json"), read(a.gguf), []
    for message in a.messages:
        history = ([] if a.separate else history) + [{"role": "user", "content": message}]
        answer = codec.decode(greedy(model, codec.chat(history), codec.end))
        history.append({"role": "assistant", "content": answer})
        print(f"> {message}\n{answer}\n")


if __name__ == "__main__":
    main()
