"""Which task how often: the document stream of training and evaluation."""

from __future__ import annotations

from . import about, classify, context_qa, conversation, extract, formatting, refuse, repeat, rewrite
from .sampler import Sampler

# task: (generator, share while copying is learnt, share afterwards)
TASKS = {
    "talk": (about.small_talk, 1, 4),
    "facts": (about.fact, 1, 5),
    "context": (context_qa.answer_from_context, 8, 15),
    "extract": (extract.extract_json, 8, 12),
    "extract_lines": (extract.extract_lines, 3, 4),
    "classify": (classify.classify, 1, 8),
    "list": (formatting.format_list, 6, 7),
    "table": (formatting.table, 4, 6),
    "rewrite": (rewrite.rewrite, 4, 13),
    "repeat": (repeat.repeat, 40, 7),
    "confirm": (repeat.confirm, 10, 9),
    "mail": (repeat.write_mail, 2, 3),
    "pick_out": (repeat.pick_out, 10, 9),
    "pick_item": (repeat.pick_item, 6, 3),
    "refuse": (refuse.out_of_domain, 1, 6),
    "conversation": (None, 3, 15),
    "long": (None, 0, 2),
}


def document(s: Sampler, task: str) -> list[dict]:
    if task == "conversation":
        return conversation.conversation(s)
    if task == "long":
        return conversation.long_conversation(s)
    messages = conversation.pair(*TASKS[task][0](s))
    return [conversation.system(s)] + messages if s.chance(0.12) else messages


def draw(s: Sampler, phase: int) -> tuple[str, list[dict]]:
    """One document; phase 0 is the copy curriculum, phase 1 the full mix."""
    shares = [share[1 + phase] for share in TASKS.values()]
    task = s.rng.choices(list(TASKS), shares)[0]
    return task, document(s, task)
