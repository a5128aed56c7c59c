"""Short rewrites: politer, shorter, another tense, upper case, a question."""

from __future__ import annotations

from . import words as W
from .sampler import Sampler, listing, sentence


def _ask(s: Sampler, forms, text):
    return s.pick(forms).replace("{x}", text)


def _object(s: Sampler):
    return s.pick([lambda: "the " + s.doc(), lambda: "the " + s.item(), lambda: "the " + s.service() + " report", lambda: "order " + s.order_id(), lambda: f"the {s.doc()} for {s.first()}"])()


def polite(s: Sampler):
    verb, obj = s.pick([v for v in W.VERBS if v not in ("lose", "need", "watch")]), _object(s)
    tail = s.pick(["", "", f" to {s.email()}", f" before {s.day()}", " now", " today", f" at {s.time()}"])
    if s.chance(.35):
        what = s.pick([lambda: f"{s.pick(['send', 'give', 'show', 'bring', 'buy', 'get', 'lend'])} me {obj}", lambda: f"help me with {obj}", lambda: f"tell me {s.pick(['the price of', 'the status of', 'the name of', 'more about'])} {obj}", lambda: f"call me {s.pick(['today', 'on ' + s.day(), 'at ' + s.time(), 'on ' + s.phone()])}", lambda: f"come to {s.pick([s.city(), 'the office', s.room()])} {s.pick(['on ' + s.day(), 'at ' + s.time(), 'now'])}",
                       lambda: f"answer my {s.pick(['e-mail', 'question', 'letter', 'call'])}", lambda: f"wait {s.pick(['for me', 'for ' + s.first(), 'a moment', 'until ' + s.time()])}", lambda: f"fix {s.pick(['this', 'it', 'the ' + s.item(), 'the ' + s.service() + ' server'])}", lambda: f"explain {s.pick(['this', 'it', obj])} to {s.pick(['me', s.first(), 'the team'])}",
                       lambda: f"write to {s.email()}", lambda: f"be {s.pick(['quiet', 'on time', 'quick', 'careful'])}", lambda: f"talk to {s.full()}", lambda: f"close the {s.pick(['door', 'window', 'ticket', 'account'])}", lambda: f"restart the {s.service()} server", lambda: f"pay {s.amount()} to {s.company()}"])()
        verb, obj, tail = what, "", s.pick(["", "", " now", " today"]) if what[:4] not in ("call", "come", "wait", "be ") else ""
        return _ask(s, ["Make this politer: {x}", "Make this more polite: {x}", "Rewrite politely: {x}", "Say this politely: {x}", "{x}\nMake it polite.", "How can I say this politely? {x}", "Make it polite: {x}"], sentence(what + tail) + s.pick([".", "!", "", " now!" if not tail and what[:4] not in ("call", "come") else "!"]).replace(" now!", "!")), f"Could you please {what}{tail}?"
    rude = sentence(s.pick(["", "", "I want you to ", "You must ", "You have to "]) + f"{verb} {obj}{tail}") + s.pick([".", "!", ""])
    return _ask(s, ["Make this politer: {x}", "Make this more polite: {x}", "Rewrite politely: {x}", "Say this politely: {x}", "{x}\nMake it polite.", "Please rewrite this in a friendly way: {x}", "How can I say this politely? {x}", "Rewrite this more politely: {x}", "Make it polite: {x}"], rude), f"Could you please {verb} {obj}{tail}?"


def _fact(s: Sampler):
    """(statement subject, 'is/was' clause) that survives many rewrites."""
    return s.pick([lambda: (f"the {s.service()} server", s.pick(["down", "slow", "offline", "ready", "full"])), lambda: (f"the {s.item()}", s.pick(["broken", "new", "lost", s.colour(), "ready"])), lambda: (f"order {s.order_id()}", s.pick(["late", "paid", "ready", "on the way"])),
                   lambda: (s.first(), s.pick(["sick", "late", "busy", "away", "at home", "in " + s.city()])), lambda: (f"the {s.doc()}", s.pick(["late", "ready", "missing", "wrong", "on the desk"])), lambda: (f"card {s.placeholder('CARD')}", s.pick(["blocked", "expired", "new"])),
                   lambda: (f"the address {s.placeholder(s.pick(['IP', 'EMAIL']))}", s.pick(["wrong", "new", "old", "blocked"]))])()


def shorter(s: Sampler):
    a, b = _fact(s)
    lead = s.pick(["I am writing to let you know that", "I just wanted to inform you that", "I would like to tell you that", "Please note that", "It has come to our attention that", "We want to let you know that", "As you may already know,", "I think it is important to say that", "We regret to inform you that", "I am happy to tell you that"])
    tail = s.pick(["", "", " at this moment in time", ", and I hope this is fine for you", ", as far as we know", " as of right now"])
    return _ask(s, ["Make this shorter: {x}", "Shorten: {x}", "Shorten this: {x}", "{x}\nMake it shorter.", "Say this in fewer words: {x}", "Summarise: {x}", "Summarise this in one short sentence: {x}", "Rewrite this shorter: {x}", "Make it brief: {x}", "Summarize: {x}"], f"{lead} {a} is {b}{tail}."), f"{sentence(a)} is {b}."


def tense(s: Sampler):
    verb = s.pick(list(W.VERBS))
    third, past = W.VERBS[verb]
    who, obj, tail = s.pick([s.first(), s.full(), "the " + s.role(), "the " + s.team() + " team"]), _object(s), s.pick(["", "", f" in {s.city()}", f" for {s.first()}", f" to {s.email()}"])
    forms = {"present": f"{who} {third} {obj}{tail}.", "past": f"{who} {past} {obj}{tail}.", "future": f"{who} will {verb} {obj}{tail}."}
    a, b = s.pick([("present", "past"), ("present", "past"), ("present", "future"), ("past", "present"), ("past", "future"), ("future", "past")])
    return _ask(s, [f"Rewrite in the {b} tense: {{x}}", f"Put this in the {b} tense: {{x}}", f"Change to {b} tense: {{x}}", f"{{x}}\nRewrite in the {b} tense.", f"Write this in the {b} tense: {{x}}"], sentence(forms[a])), sentence(forms[b])


def as_question(s: Sampler):
    a, b = _fact(s)
    a2 = a
    return _ask(s, ["Rewrite as a question: {x}", "Turn this into a question: {x}", "Make this a question: {x}", "{x}\nRewrite as a question.", "Ask this as a question: {x}"], f"{sentence(a)} is {b}."), f"Is {a2} {b}?"


def negative(s: Sampler):
    a, b = _fact(s)
    if s.chance(.3):
        return _ask(s, ["Say the opposite: {x}", "Remove the negation: {x}", "Make this positive: {x}"], f"{sentence(a)} is not {b}."), f"{sentence(a)} is {b}."
    return _ask(s, ["Make this negative: {x}", "Negate: {x}", "Negate this sentence: {x}", "Say the opposite: {x}", "{x}\nMake it negative."], f"{sentence(a)} is {b}."), f"{sentence(a)} is not {b}."


def case(s: Sampler):
    words = [s.word() for _ in range(s.number(1, 4))] if s.chance(.7) else s.full().split()
    form = s.pick(["upper", "upper", "lower", "title"])
    text = " ".join(words)
    if form == "upper":
        return _ask(s, ["Write in upper case: {x}", "Uppercase: {x}", "Make this uppercase: {x}", "Put this in capital letters: {x}", "Write {x} in capital letters.", "Convert to uppercase: {x}"], text), text.upper()
    if form == "lower":
        return _ask(s, ["Write in lower case: {x}", "Lowercase: {x}", "Make this lowercase: {x}", "Convert to lowercase: {x}"], text.upper() if s.chance(.5) else text.title()), text.lower()
    return _ask(s, ["Write in title case: {x}", "Title case: {x}", "Capitalise each word: {x}", "Capitalize each word: {x}"], text), text.title()


def typo(s: Sampler):
    """One damaged word, restored."""
    from .repeat import plain_sentence
    text = plain_sentence(s) if s.chance(.6) else "{} is {}.".format(*[sentence(x) if i == 0 else x for i, x in enumerate(_fact(s))])
    words = text.split(" ")
    plain = [i for i, w in enumerate(words) if len(w) > 3 and w.strip(".,").isalpha() and w.strip(".,").islower()]
    if not plain:
        return shorter(s)
    at = s.pick(plain)
    w = words[at]
    k = s.number(1, len(w.strip(".,")) - 2)
    form = s.number(0, 2)
    words[at] = w[:k] + w[k + 1] + w[k] + w[k + 2:] if form == 0 else w[:k] + w[k + 1:] if form == 1 else w[:k] + w[k] + w[k:]
    return _ask(s, ["Correct the typo: {x}", "Fix the typo: {x}", "Fix the spelling: {x}", "Correct this: {x}", "{x}\nCorrect the spelling.", "Correct the spelling: {x}", "Correct the mistake: {x}"], " ".join(words)), text


def bullets_to_sentence(s: Sampler):
    parts = s.shuffled([f"the {s.service()} server is {s.pick(['down', 'up', 'slow'])}", f"{s.first()} is {s.pick(['sick', 'away', 'late'])}", f"order {s.order_id()} is {s.pick(['paid', 'late'])}", f"the {s.doc()} is {s.pick(['ready', 'late'])}"])[: s.number(2, 3)]
    return _ask(s, ["Write these bullets as one sentence:\n{x}", "Turn the bullets into a sentence:\n{x}", "{x}\nWrite this as one sentence.", "Combine into one sentence:\n{x}", "Make one sentence of this:\n{x}"], "\n".join("- " + p for p in parts)), sentence(listing(parts)) + "."


def formal(s: Sampler):
    slang, good = s.pick([("gonna", "going to"), ("wanna", "want to"), ("gotta", "have to"), ("don't", "do not"), ("can't", "cannot"), ("won't", "will not")])
    verb, obj = s.pick(list(W.VERBS)), _object(s)
    tail = s.pick(["", f" on {s.day()}", f" with {s.first()}"])
    who = s.pick(["I", "We"])
    be = {"I": " am", "We": " are"}[who] if slang == "gonna" else ""
    return _ask(s, ["Make this formal: {x}", "Write this formally: {x}", "Rewrite without slang: {x}", "{x}\nMake it formal.", "Rewrite in a formal style: {x}"], f"{who}{be} {slang} {verb} {obj}{tail}."), f"{who}{be} {good} {verb} {obj}{tail}."


def replace(s: Sampler):
    from .repeat import plain_sentence
    text = plain_sentence(s)
    words = [w for w in text.rstrip(".").split(" ") if len(w) > 3] or [text.split(" ")[0]]
    old, new = s.pick(words), s.pick([s.word(), s.first(), s.city(), s.placeholder()])
    return _ask(s, [f"Replace {old} with {new}: {{x}}", f"Replace {old} with {new} in this text: {{x}}", f"{{x}}\nReplace {old} with {new}.", f"Change {old} to {new}: {{x}}"], text), text.replace(old, new)


REWRITES = [polite, polite, shorter, shorter, tense, tense, as_question, negative, case, typo, typo, bullets_to_sentence, formal, replace]


def rewrite(s: Sampler):
    return s.pick(REWRITES)(s)
