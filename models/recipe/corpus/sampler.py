"""Random values for the grammars, split into training and held-out worlds.

A value belongs to the held-out world when its hash says so; the training
sampler never draws it and the held-out sampler draws nothing else. Closed
classes (days, colours, currencies) are shared.
"""

from __future__ import annotations

import random
import re
import zlib

from . import words as W

KINDS = ("EMAIL", "PHONE", "CARD", "IBAN", "IP", "SECRET")
KIND_NOUN = {"EMAIL": "e-mail", "PHONE": "phone number", "CARD": "card", "IBAN": "IBAN", "IP": "IP address", "SECRET": "secret"}
_CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")


def is_held_out(value: str) -> bool:
    return zlib.crc32(value.encode()) % 10 == 0


class Sampler:
    """One stream of random values; ``held_out`` selects the world."""

    def __init__(self, seed: int, held_out: bool = False):
        self.rng = random.Random(seed * 2 + int(held_out))
        self.held_out = held_out
        self._lists: dict[int, list] = {}

    def pick(self, items):
        return items[int(self.rng.random() * len(items))]

    def some(self, items, count: int) -> list:
        return self.rng.sample(list(items), count)

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def number(self, low: int, high: int) -> int:
        return self.rng.randint(low, high)

    def shuffled(self, items) -> list:
        items = list(items)
        self.rng.shuffle(items)
        return items

    def open(self, items):
        """Draws from an open class: only this world's share of the list."""
        key = id(items)
        if key not in self._lists:
            self._lists[key] = [i for i in items if is_held_out(i) == self.held_out] or list(items)
        return self.pick(self._lists[key])

    def open_some(self, items, count: int) -> list:
        self.open(items)
        pool = self._lists[id(items)]
        return self.rng.sample(pool, count) if len(pool) >= count else self.rng.sample(list(items), count)

    def fresh(self, make) -> str:
        """Draws until the value belongs to this world."""
        while True:
            value = make()
            if is_held_out(value) == self.held_out:
                return value

    # Names and things
    def first(self): return self.open(W.FIRST)
    def last(self): return self.open(W.LAST)
    def full(self): return f"{self.first()} {self.last()}"
    def city(self): return self.open(W.CITIES)
    def company(self): return f"{self.open(W.COMPANY_HEAD)} {self.pick(W.COMPANY_TAIL)}"
    def item(self): return self.open(W.ITEMS)
    def service(self): return self.open(W.SERVICES)
    def role(self): return self.open(W.ROLES)
    def team(self): return self.pick(W.TEAMS)
    def doc(self): return self.pick(W.DOCS)
    def day(self): return self.pick(W.DAYS)
    def room(self): return self.pick(W.ROOMS)
    def colour(self): return self.pick(W.COLOURS)
    def cause(self): return self.pick(W.CAUSES)
    def word(self): return self.open(W.RANDOM_WORDS)

    # Values
    def code_of(self, alphabet: str, length: int) -> str:
        return self.fresh(lambda: "".join(self.pick(alphabet) for _ in range(length)))

    def placeholder(self, kind: str | None = None) -> str:
        return f"PII_{kind or self.pick(KINDS)}_{self.code_of(W.CODE_ALPHABET, 6)}"

    def order_id(self):
        form = self.number(0, 5)
        digits = self.code_of("0123456789", self.number(3, 6))
        if form == 0:
            return digits
        if form == 1:
            return "#" + digits
        prefix = self.pick(["A", "B", "INV", "ORD", "PO", "TCK", "INC", "REF", "SO", "RMA", "X", "Q", "K", "CASE", "REQ"])
        return f"{prefix}-{digits}"

    def code(self):
        form = self.number(0, 4)
        if form == 0:
            return self.code_of("0123456789", self.number(3, 8))
        if form == 1:
            return self.code_of(W.CODE_ALPHABET, self.number(4, 8))
        if form == 2:
            return self.code_of("abcdefghijklmnopqrstuvwxyz0123456789", self.number(4, 8))
        if form == 3:
            return self.code_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 2) + "-" + self.code_of("0123456789", 4)
        return self.code_of("0123456789", 2) + "-" + self.code_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 3)

    def amount(self):
        value = self.number(1, 999) if self.chance(0.6) else self.number(1000, 9999)
        cents = f".{self.number(0, 99):02d}" if self.chance(0.5) else ""
        currency = self.pick(W.CURRENCIES)
        return f"{value}{cents} {currency}" if self.chance(0.8) else f"{self.pick('€$')}{value}{cents}"

    def time(self):
        if self.chance(0.8):
            return f"{self.number(0, 23):02d}:{self.pick(['00', '15', '30', '45', '10', '20', '05', '50'])}"
        return f"{self.number(1, 12)} {self.pick(['am', 'pm'])}"

    def date(self):
        day, month = self.number(1, 28), self.number(1, 12)
        form = self.number(0, 3)
        if form == 0:
            return f"{self.number(2023, 2027)}-{month:02d}-{day:02d}"
        if form == 1:
            return f"{day} {W.MONTHS[month - 1]}"
        if form == 2:
            return f"{W.MONTHS[month - 1]} {day}"
        return f"{day}.{month}.{self.number(2023, 2027)}"

    def version(self): return f"{self.number(0, 9)}.{self.number(0, 20)}" + (f".{self.number(0, 9)}" if self.chance(0.5) else "")
    def quantity(self): return str(self.number(2, 99) if self.chance(0.8) else self.number(100, 999))

    def email(self):
        """Mostly masked; a few raw ones, since a shield can be switched off."""
        if self.chance(0.92):
            return self.placeholder("EMAIL")
        return f"{self.first().lower()}.{self.last().lower()}@{self.pick(W.COMPANY_HEAD).lower()}.{self.pick(['com', 'org', 'net', 'eu', 'example'])}"

    def phone(self):
        if self.chance(0.92):
            return self.placeholder("PHONE")
        return f"+{self.number(1, 99)} {self.code_of('0123456789', 3)} {self.code_of('0123456789', 4)}"

    def private(self, kind):
        return {"EMAIL": self.email, "PHONE": self.phone}.get(kind, lambda: self.placeholder(kind))()

    def say(self, template: str, **slots) -> str:
        """Expands ``[a|b]`` alternatives, then fills ``{slot}`` values."""
        while (match := _CHOICE.search(template)):
            template = template[: match.start()] + self.pick(match.group(1).split("|")) + template[match.end():]
        return _SLOT.sub(lambda m: str(slots[m.group(1)]) if m.group(1) in slots else m.group(0), template)


def sentence(text: str) -> str:
    """Upper-cases the first letter and nothing else."""
    return text[:1].upper() + text[1:]


def listing(items, final: str = "and") -> str:
    items = list(items)
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + f" {final} " + items[-1]
