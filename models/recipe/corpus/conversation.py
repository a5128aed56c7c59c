"""Turns stacked into conversations, with memory across them."""

from __future__ import annotations

import json

from . import about, classify, context_qa, extract, formatting, refuse, repeat, rewrite
from .sampler import KIND_NOUN, Sampler, listing, sentence

SYSTEM = ["You are a helpful assistant.", "You are a helpful assistant.", "You are an edge assistant.", "Answer briefly.", "You are the Obsidian edge assistant.", "Be polite and brief.", "Be concise.", "You are the assistant of {c}.", "You help the {t} team.",
          "Copy placeholders exactly.", "You are a support agent.", "Help the user.", "Answer in English."]
SINGLE = [(about.small_talk, 2), (about.fact, 2), (context_qa.answer_from_context, 4), (extract.extract_json, 3), (extract.extract_lines, 1), (classify.classify, 2), (formatting.format_list, 2),
          (formatting.table, 1), (rewrite.rewrite, 3), (repeat.repeat, 2), (repeat.confirm, 3), (repeat.write_mail, 1), (repeat.pick_out, 3), (repeat.pick_item, 1), (refuse.out_of_domain, 2)]
_BAG = [make for make, weight in SINGLE for _ in range(weight)]


def turn(role, content):
    return {"role": role, "content": content}


def system(s: Sampler):
    return turn("system", s.pick(SYSTEM).replace("{c}", s.company()).replace("{t}", s.team()))


def pair(ask, answer):
    return [turn("user", ask), turn("assistant", answer)]


def stacked(s: Sampler, count=None):
    """Unrelated turns: each answer must look at its own question."""
    out = []
    for _ in range(count or s.number(2, 4)):
        out += pair(*s.pick(_BAG)(s))
    return out


def context_first(s: Sampler):
    """The text in one turn, questions about it in later ones."""
    facts = context_qa.draw_facts(s, s.number(2, 4))
    text = context_qa.context_text(s, facts)
    if s.chance(.35):
        out = [turn("system", s.pick(["{x}", "Context: {x}", "Answer from this text. {x}", "You are an assistant. Facts: {x}", "Use these notes: {x}"]).replace("{x}", text))]
    else:
        out = pair(s.pick(["Here is a text: {x}", "Read this: {x}", "Context: {x}", "Remember this: {x}", "{x}", "Note: {x}", "Please read this: {x}"]).replace("{x}", text), "I have read it. What would you like to know?")
    for fact in s.some(facts, s.number(1, min(3, len(facts)))):
        out += pair(s.pick(fact.asks), sentence(fact.full))
    if s.chance(.12):
        other = context_qa.draw_facts(s, 1)[0]
        if other.key not in {f.key for f in facts}:
            out += pair(s.pick(other.asks), context_qa.UNKNOWN)
    return out


def name_memory(s: Sampler):
    n = s.first() if s.chance(.7) else s.full()
    h = s.say(about.HELLO)
    out = pair(s.pick([f"My name is {n}.", f"{h}, I am {n}.", f"{h}, my name is {n}.", f"Call me {n}."]), f"Hello {n}! How can I help you?")
    if s.chance(.4):
        out += pair(*s.pick([about.fact, repeat.confirm, classify.classify, rewrite.rewrite])(s))
    out += pair(s.pick(["What is my name?", "Do you know my name?", "Who am I?", "What's my name?", "Do you remember my name?", "Say my name."]), f"Your name is {n}.")
    return out


def value_memory(s: Sampler):
    """A private value in one turn, used in a later one."""
    kind = s.pick(["EMAIL", "EMAIL", "PHONE", "CARD", "CARD", "IBAN", "IP", "SECRET"])
    x, noun = s.private(kind), KIND_NOUN[kind]
    tell, told = s.pick([(f"My {noun} is {x}.", f"Thank you. Your {noun} is {x}."), (f"Please note my {noun}: {x}", f"Noted. Your {noun} is {x}."), (f"Remember my {noun}: {x}", f"Noted. Your {noun} is {x}.")])
    out = pair(tell, told)
    if s.chance(.35):
        out += pair(*s.pick([about.small_talk, about.fact, classify.classify, context_qa.answer_from_context])(s))
    later = [(f"What is my {noun}?", f"Your {noun} is {x}."), (f"Repeat my {noun}.", x), (f"Which {noun} did I give you?", f"Your {noun} is {x}."), (f"Please confirm my {noun}.", f"Your {noun} is {x}."), (f"Return my {noun} as JSON.", json.dumps({noun: x}))]
    if kind == "CARD":
        later += [("Confirm that my card was charged.", f"We confirm that card {x} was charged.")] * 2
    if kind == "EMAIL":
        later += [(f"Write to my e-mail that the {(d := s.doc())} is ready.", f"To: {x}\n\nHello,\n\nthe {d} is ready.\n\nKind regards")] * 2
    out += pair(*s.pick(later))
    if s.chance(.3):
        y = s.private(kind)
        out += pair(f"My new {noun} is {y}.", f"Thank you. Your {noun} is {y}.")
        out += pair(f"What is my {noun}?", f"Your {noun} is {y}.")
    return out


def reformat(s: Sampler):
    """The same items in one layout, then in another."""
    items = formatting.items_of(s)
    kinds = s.some([k for k in formatting.LAYOUTS if k != "sentence"], 2)
    names, render = formatting.LAYOUTS[kinds[0]]
    out = pair(s.pick(["Make {l} of {x}.", "Write {x} as {l}.", "Format as {l}: {x}"]).replace("{l}", s.pick(names)).replace("{x}", listing(items)), render(items))
    names, render = formatting.LAYOUTS[kinds[1]]
    out += pair(s.pick(["Now as {l}.", "And as {l}?", "Now {l}, please.", "Please make it {l}.", "Can I have it as {l}?", "As {l}."]).replace("{l}", s.pick(names)), render(items))
    if s.chance(.3):
        extra = s.word()
        items = items + [extra]
        out += pair(s.pick([f"Add {extra}.", f"Please add {extra}.", f"Add {extra} to the list."]), render(items))
    return out


def extract_then(s: Sampler):
    """JSON first, then single fields of it."""
    kind, record, text = extract.draw(s, 3, 5)
    seen = {}
    for k, x in record:
        seen.setdefault(k, x)
    out = pair(s.pick(extract.ASKS).replace("{k}", ", ".join(seen)).replace("{w}", kind).replace("{t}", text), json.dumps(seen, ensure_ascii=False))
    for k in s.some(list(seen), s.number(1, 2)):
        noun = k.replace("_", " ")
        out += pair(s.pick([f"What is the {noun}?", f"And the {noun}?", f"Give me the {noun}.", f"Which {noun} is it?"]), f"The {noun} is {seen[k]}.")
    return out


def rewrite_then(s: Sampler):
    """Rewrite what was just said."""
    ask, answer = repeat.confirm(s)
    out = pair(ask, answer)
    if s.chance(.5):
        out += pair(s.pick(["Repeat that.", "Say that again.", "Again, please.", "Please repeat your answer.", "Can you repeat that?"]), answer)
    else:
        out += pair(s.pick(["Thanks", "Thank you!", "Thanks a lot", "Great, thanks"]), "You are welcome.")
    return out


def follow_up(s: Sampler):
    """One statement, rewritten again and again."""
    a, b = rewrite._fact(s)
    plain, ask, no = f"{sentence(a)} is {b}.", f"Is {a} {b}?", f"{sentence(a)} is not {b}."
    steps = [("as a question", ask), ("as a negative sentence", no), ("as a normal sentence", plain), ("as a bullet", "- " + plain)]
    order = s.some(steps[:2] + steps[3:], 2)
    out = pair(s.pick(["Write this {x}: {t}", "Rewrite {x}: {t}", "Rewrite this {x}: {t}"]).replace("{x}", order[0][0]).replace("{t}", plain), order[0][1])
    return out + pair(s.pick(["Now {x}.", "And now {x}.", "Now write it {x}.", "And {x}?"]).replace("{x}", order[1][0]), order[1][1])


SHAPES = [(stacked, 6), (follow_up, 1), (context_first, 5), (name_memory, 2), (value_memory, 5), (reformat, 3), (extract_then, 2), (rewrite_then, 2)]
_SHAPE_BAG = [make for make, weight in SHAPES for _ in range(weight)]


def conversation(s: Sampler):
    out = s.pick(_SHAPE_BAG)(s)
    if out[0]["role"] != "system" and s.chance(.25):
        out = [system(s)] + out
    return out


def long_conversation(s: Sampler):
    """Many turns, for the positions that short documents never reach."""
    out = []
    for _ in range(s.number(3, 6)):
        more = s.pick(_SHAPE_BAG)(s)
        if more[0]["role"] == "system":
            more = pair("Read this: " + more[0]["content"], "I have read it. What would you like to know?") + more[1:]
        out += more
    return out
