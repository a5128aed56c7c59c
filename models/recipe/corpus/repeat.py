"""Copying: repeat, confirm, pick out. The skill everything else rests on."""

from __future__ import annotations

from . import words as W
from .sampler import KIND_NOUN, KINDS, Sampler, listing, sentence

REPEATERS = ["Repeat: {x}", "Repeat this: {x}", "Repeat after me: {x}", "Please repeat: {x}", "Say: {x}", "Copy: {x}", "Copy this exactly: {x}", "Echo: {x}", "Repeat the following text: {x}",
             "Repeat the following exactly:\n{x}", "Please copy this text: {x}", "Write this again: {x}", "Repeat \"{x}\"", "Say \"{x}\"", "Echo {x}", "Repeat the line below.\n{x}", "Print {x}", "Type {x}"]


def payload(s: Sampler) -> str:
    form = s.number(0, 9)
    if form < 3:
        return " ".join(s.placeholder() for _ in range(s.pick([1, 1, 2, 3])))
    if form == 3:
        return " ".join(s.code() for _ in range(s.pick([1, 2, 3])))
    if form == 4:
        return " ".join(s.word() for _ in range(s.number(1, 8)))
    if form == 5:
        return s.full() + s.pick(["", ", " + s.city(), ", " + s.company()])
    if form == 6:
        return listing([s.placeholder() for _ in range(2)])
    if form == 7:
        return " ".join(s.pick([s.word, s.code, s.first, s.order_id, s.placeholder])() for _ in range(s.number(2, 5)))
    return plain_sentence(s)


def plain_sentence(s: Sampler) -> str:
    """A statement that mentions values of many kinds."""
    if s.chance(0.4):
        from .context_qa import FRAMES
        return sentence(s.pick(s.pick(FRAMES)(s).states))
    e = s.email()
    forms = [
        lambda: f"please write to {e} before {s.day()}.",
        lambda: f"the card {s.placeholder('CARD')} was charged {s.amount()}.",
        lambda: f"{s.full()} from {s.city()} ordered {s.quantity()} {s.pick(W.GROCERIES)}.",
        lambda: f"the server {s.placeholder('IP')} is down.",
        lambda: f"call {s.first()} on {s.phone()} about order {s.order_id()}.",
        lambda: f"{s.first()} sent the {s.doc()} to {e}.",
        lambda: f"the IBAN {s.placeholder('IBAN')} belongs to {s.company()}.",
        lambda: f"the {s.item()} is {s.colour()} and costs {s.amount()}.",
        lambda: f"never share the secret {s.placeholder('SECRET')} with {s.first()}.",
        lambda: f"ticket {s.order_id()} was opened by {e} on {s.date()}.",
        lambda: f"we will ship the {s.item()} to {s.city()} on {s.day()}.",
        lambda: f"{s.first()} and {s.first()} meet in {s.room()} at {s.time()}.",
        lambda: f"my name is {s.full()} and my e-mail is {e}.",
        lambda: f"the {s.service()} service in {s.pick(W.REGIONS)} runs version {s.version()}.",
        lambda: f"can you send the {s.doc()} to {e}?",
        lambda: f"customer {e} called from {s.phone()} about invoice {s.order_id()}.",
        lambda: f"I paid {s.amount()} with card {s.placeholder('CARD')} on {s.date()}.",
    ]
    return sentence(s.pick(forms)())


def repeat(s: Sampler):
    if s.chance(0.06):
        x, n = payload(s), s.pick(["twice", "two times"])
        return f"Say {n}: {x}", f"{x} {x}"
    x = payload(s)
    return s.pick(REPEATERS).replace("{x}", x), x


def confirm(s: Sampler):
    """Requests to act on a value; the answer confirms with the same value."""
    e, p, c, i = s.email(), s.phone(), s.placeholder("CARD"), s.placeholder("IBAN")
    n, o, a, d = s.first(), s.order_id(), s.amount(), s.day()
    ip, k = s.placeholder("IP"), s.placeholder("SECRET")
    please = s.pick(["Please ", "please ", "", "Can you ", "Could you please ", "Could you ", "I need you to "])
    end = "?" if please.startswith("C") else "."
    todo, done = s.pick([
        (f"write to {e} and confirm that card {c} was charged", f"To: {e}\n\nHello,\n\nwe confirm that card {c} was charged.\n\nKind regards"),
        (f"write to {e} and say that the {s.doc()} is ready", None),
        (f"send an e-mail to {e} and confirm the payment of {a} with card {c}", f"To: {e}\n\nHello,\n\nwe confirm the payment of {a} with card {c}.\n\nKind regards"),
        (f"confirm that card {c} was charged", f"We confirm that card {c} was charged."),
        (f"confirm that card {c} was charged {a}", f"We confirm that card {c} was charged {a}."),
        (f"confirm order {o} to {e}", f"We confirm order {o} to {e}."),
        (f"confirm that {e} is the right address", f"Yes, {e} is the right address."),
        (f"confirm the transfer of {a} to {i}", f"We confirm the transfer of {a} to {i}."),
        (f"confirm that {a} was sent to {i}", f"We confirm that {a} was sent to {i}."),
        (f"call {n} on {p} {s.pick(['on ' + d, 'about order ' + o, 'today'])}", None),
        (f"update my e-mail to {e}", f"Your e-mail is now {e}."),
        (f"change my phone number to {p}", f"Your phone number is now {p}."),
        (f"use card {c} for order {o}", f"Card {c} is used for order {o}."),
        (f"block the address {ip}", f"The address {ip} is blocked."),
        (f"block card {c}", f"Card {c} is blocked."),
        (f"rotate the key {k}", f"The key {k} is rotated."),
        (f"confirm my appointment on {d} and write to {e}", f"To: {e}\n\nHello,\n\nwe confirm your appointment on {d}.\n\nKind regards"),
        (f"thank {n} and write to {e}", f"To: {e}\n\nHello {n},\n\nthank you very much.\n\nKind regards"),
        (f"invite {n} at {e} to the meeting on {d}", f"To: {e}\n\nHello {n},\n\nwe invite you to the meeting on {d}.\n\nKind regards"),
        (f"remind {e} about invoice {o}", f"To: {e}\n\nHello,\n\nthis is a reminder about invoice {o}.\n\nKind regards"),
    ])
    if done is None:
        if todo.startswith("call"):
            done = sentence(todo) + "."
            return s.pick(["Remind me to {x}.", "Note: {x}.", "Write a note to {x}.", "Make a note: {x}."]).replace("{x}", todo), "Note: " + done
        what = todo.split(" and say that ")[1]
        done = f"To: {e}\n\nHello,\n\n{what}.\n\nKind regards"
    ask = sentence(please + todo + end) if s.chance(.9) else please + todo
    return ask, done


def write_mail(s: Sampler):
    """Short e-mails from a one-line order."""
    n, e, x, d = s.first(), s.email(), s.doc(), s.day()
    what, body = s.pick([
        (f"that the {x} is ready", f"the {x} is ready."), (f"that the {x} is late", f"the {x} is late."), (f"that I am sick on {d}", f"I am sick on {d}."),
        (f"that the meeting moves to {d}", f"the meeting moves to {d}."), (f"that order {(o := s.order_id())} was shipped", f"order {o} was shipped."),
        (f"that my new number is {(p := s.phone())}", f"my new number is {p}."), (f"that the {(v := s.service())} server is down", f"the {v} server is down."),
        (f"that the {v} service works again", f"the {v} service works again."), (f"that we received {(a := s.amount())}", f"we received {a}."),
        (f"that card {(c := s.placeholder('CARD'))} was charged", f"card {c} was charged."), (f"that the office is closed on {d}", f"the office is closed on {d}."),
    ])
    to = s.chance(.5)
    ask = s.pick(["Write a short e-mail to {n}{t} saying {w}.", "Write an e-mail to {n}{t} and say {w}.", "Write to {n}{t} {w}.", "Draft an e-mail to {n}{t}: say {w}.", "Tell {n}{t} by e-mail {w}.", "Write a message to {n}{t} saying {w}."])
    ask = ask.replace("{n}", n).replace("{t}", f" ({e})" if to else "").replace("{w}", what)
    return ask, (f"To: {e}\n\n" if to else "") + f"Hello {n},\n\n{body}\n\nKind regards"


def pick_out(s: Sampler):
    """Which value is in this text: one of several kinds, or all of them."""
    kinds = s.some(KINDS, s.number(1, 3))
    values = {k: s.placeholder(k) for k in kinds}
    frames = {"EMAIL": ["write to {x}", "my e-mail is {x}", "send it to {x}"], "PHONE": ["call me on {x}", "my phone number is {x}", "ring {x}"], "CARD": ["I paid with card {x}", "please charge card {x}", "the card is {x}"],
              "IBAN": ["transfer it to {x}", "the IBAN is {x}", "my account is {x}"], "IP": ["the server is {x}", "the host {x} does not answer", "I see errors from {x}"], "SECRET": ["the password is {x}", "the token is {x}", "the key is {x}"]}
    parts = [s.pick(frames[k]).replace("{x}", values[k]) for k in kinds]
    if s.chance(.5):
        parts.insert(s.number(0, len(parts)), s.pick([f"I am {s.first()}", f"order {s.order_id()} is late", f"the {s.item()} is broken", "thank you", f"I live in {s.city()}"]))
    text = ". ".join(sentence(p) for p in parts) + "." if s.chance(.6) else sentence(listing(parts)) + "."
    if s.chance(0.25):
        ask = s.pick(["List all placeholders in this text: {t}", "List the placeholders: {t}", "Which placeholders are in this text? {t}", "{t}\nList the placeholders.", "List all personal data in this text: {t}"])
        return ask.replace("{t}", text), "\n".join("- " + values[k] for k in kinds)
    kind = s.pick(kinds)
    noun = {"EMAIL": s.pick(["e-mail", "email", "e-mail address"]), "CARD": s.pick(["card", "card number"]), "PHONE": s.pick(["phone number", "phone"]), "IP": s.pick(["IP address", "IP"]), "SECRET": s.pick(["secret", "password", "token", "key"]), "IBAN": s.pick(["IBAN", "account"])}[kind]
    if s.chance(.08):
        absent = s.pick([k for k in KINDS if k not in kinds])
        return f"{text} What is the {KIND_NOUN[absent]}?", f"The text contains no {KIND_NOUN[absent]}."
    if s.chance(0.5):
        ask = s.pick(["{t} What is the {n}?", "{t}\nWhat is the {n}?", "What is the {n}? {t}", "What is the {n} in this text? {t}", "Text: {t}\nQuestion: What is the {n}?", "Which {n} is in this text? {t}"])
        return ask.replace("{t}", text).replace("{n}", noun), f"The {noun} is {values[kind]}."
    ask = s.pick(["Find the {n}: {t}", "Extract the {n}: {t}", "Give me the {n} only: {t}", "{t}\nReturn only the {n}.", "Copy the {n} from this text: {t}", "Extract the {n} from this text: {t}"])
    return ask.replace("{t}", text).replace("{n}", noun), values[kind]


def pick_item(s: Sampler):
    """First, second, last of a list."""
    items = [s.pick([s.word, s.word, s.first, s.city, s.code, s.placeholder])() for _ in range(s.number(2, 5))]
    if len(set(items)) < len(items):
        items = s.open_some(W.RANDOM_WORDS, 3)
    place = s.number(0, len(items) - 1)
    name = ["first", "second", "third", "fourth", "fifth"][place]
    if place == len(items) - 1 and s.chance(.5):
        name = "last"
    ask = s.pick(["What is the {n} item? {x}", "Give me the {n} item: {x}", "Which item is {n}? {x}", "{x}\nWhat is the {n} item?", "Say the {n} word: {x}", "Repeat only the {n} item: {x}"])
    return ask.replace("{n}", name).replace("{x}", ", ".join(items)), items[place]
