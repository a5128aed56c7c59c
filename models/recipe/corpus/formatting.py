"""Lists and tables: the same items in another layout."""

from __future__ import annotations

import json

from . import words as W
from .sampler import Sampler, listing


def items_of(s: Sampler):
    form = s.number(0, 8)
    count = s.number(2, 6)
    pool = {0: W.GROCERIES, 1: W.ITEMS, 2: W.FIRST, 3: W.CITIES, 4: W.SERVICES, 5: W.RANDOM_WORDS}.get(form)
    if pool:
        return s.open_some(pool, count)
    if form == 6:
        return [s.placeholder() for _ in range(min(count, 4))]
    if form == 7:
        return [f"{s.pick(list(W.VERBS))} the {s.doc()}" for _ in range(count)]
    return [s.full() for _ in range(min(count, 4))]


LAYOUTS = {
    "bullets": (["a bullet list", "bullets", "bullet points", "a bulleted list", "a list", "a markdown list"], lambda x: "\n".join(f"- {i}" for i in x)),
    "numbers": (["a numbered list", "a numbered markdown list", "numbered points", "an ordered list"], lambda x: "\n".join(f"{n}. {i}" for n, i in enumerate(x, 1))),
    "csv": (["a comma-separated line", "CSV", "comma-separated values", "one line with commas"], lambda x: ",".join(x)),
    "json": (["a JSON array", "a JSON list", "JSON"], lambda x: json.dumps(x, ensure_ascii=False)),
    "lines": (["one item per line", "separate lines", "lines"], lambda x: "\n".join(x)),
    "sentence": (["one sentence", "a sentence"], None),
    "check": (["a checklist", "a todo list", "a to-do list"], lambda x: "\n".join(f"- [ ] {i}" for i in x)),
}
VERB = ["Format these as {l}: {x}", "Write these items as {l}: {x}", "Turn this into {l}: {x}", "Make {l}: {x}", "Make {l} of {x}", "Show {x} as {l}", "Show {x} as {l}.", "{x}\nFormat as {l}.", "Put this into {l}: {x}", "Convert to {l}: {x}", "Please make {l} of {x}.", "Give me {l} of {x}.", "Write {l} with {x}.", "I need {l} with {x}."]


def source(s: Sampler, items) -> str:
    form = s.number(0, 5)
    if form < 3:
        return listing(items) if s.chance(.5) else ", ".join(items)
    if form == 3:
        return "\n".join("- " + i for i in items)
    return ", ".join(items) if form == 4 else "; ".join(items)


def format_list(s: Sampler):
    if s.chance(.15):
        return sentences_to_bullets(s)
    items = items_of(s)
    kind = s.pick(["bullets", "bullets", "bullets", "numbers", "numbers", "csv", "json", "lines", "sentence", "check"])
    names, render = LAYOUTS[kind]
    text = source(s, items)
    if kind == "sentence":
        text = "\n".join("- " + i for i in items)
        names = ["one sentence", "a sentence"]
        return s.pick(["Write this list as {l}:\n{x}", "Turn these bullets into {l}:\n{x}", "{x}\nWrite this as {l}.", "Make {l} from the list:\n{x}"]).replace("{l}", s.pick(names)).replace("{x}", text), f"The items are {listing(items)}."
    ask = s.pick(VERB)
    if "\n" in text:
        ask = s.pick(["Turn this into {l}:\n{x}", "Convert to {l}:\n{x}", "{x}\n\nMake this {l}.", "Format as {l}:\n{x}"])
    return ask.replace("{l}", s.pick(names)).replace("{x}", text), render(items)


def sentences_to_bullets(s: Sampler):
    from .repeat import plain_sentence
    lines = [plain_sentence(s) for _ in range(s.number(2, 4))]
    numbered = s.chance(.25)
    ask = s.pick(["Summarise as bullet points: {x}", "Write this text as bullet points: {x}", "{x}\nTurn this into bullets, one per sentence.", "Make bullet points of this text: {x}", "List the facts in this text: {x}", "Summarise in bullets:\n{x}"])
    if numbered:
        ask = s.pick(["Write this text as a numbered list: {x}", "{x}\nNumber the sentences.", "Make a numbered list of the facts: {x}"])
    return ask.replace("{x}", " ".join(lines)), "\n".join(f"{n}. {t}" if numbered else f"- {t}" for n, t in enumerate(lines, 1))


COLUMNS = [
    (("Name", "Phone"), lambda s: (s.first(), s.placeholder("PHONE"))), (("Name", "E-mail"), lambda s: (s.first(), s.placeholder("EMAIL"))),
    (("Item", "Price"), lambda s: (s.item(), s.amount())), (("Item", "Quantity"), lambda s: (s.pick(W.GROCERIES), s.quantity())), (("Name", "City"), lambda s: (s.first(), s.city())),
    (("Service", "Status"), lambda s: (s.service(), s.pick(["up", "down", "slow", "healthy"]))), (("Day", "Task"), lambda s: (s.day(), s.pick(list(W.VERBS)) + " the " + s.doc())),
    (("Name", "Role"), lambda s: (s.first(), s.role())), (("Order", "Status"), lambda s: (s.order_id(), s.pick(["open", "paid", "shipped", "late"]))), (("Server", "IP"), lambda s: (s.service(), s.placeholder("IP"))),
    (("Name", "Age"), lambda s: (s.first(), str(s.number(18, 80)))), (("Item", "Colour"), lambda s: (s.item(), s.colour())), (("Service", "Version"), lambda s: (s.service(), s.version())), (("Time", "Event"), lambda s: (s.time(), s.pick(["lunch", "review", "call", "demo", "meeting", "training"]))),
    (("Name", "City", "Role"), lambda s: (s.first(), s.city(), s.role())), (("Item", "Quantity", "Price"), lambda s: (s.item(), s.quantity(), s.amount())), (("Name", "E-mail", "City"), lambda s: (s.first(), s.placeholder("EMAIL"), s.city())),
]


def markdown(head, rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(r) + " |" for r in lines)


def table_text(s: Sampler, head, rows) -> str:
    form = s.number(0, 3) if len(head) == 2 else s.pick([1, 3])
    if form == 0:
        return ", ".join(f"{a}: {b}" for a, b in rows)
    if form == 1:
        return "; ".join(", ".join(r) for r in rows)
    if form == 2:
        return ", ".join(f"{a} {b}" for a, b in rows) if head[0] not in ("Order",) else ", ".join(f"{a}: {b}" for a, b in rows)
    return "\n".join(", ".join(r) for r in rows)


def table(s: Sampler):
    head, row = s.pick(COLUMNS)
    rows, seen = [], set()
    for _ in range(s.number(1, 4)):
        r = row(s)
        if r[0] not in seen:
            seen.add(r[0])
            rows.append(r)
    text = table_text(s, head, rows)
    columns = listing(head)
    kind = s.number(0, 9)
    if kind < 6:
        ask = s.pick(["Make a markdown table with the columns {c}: {x}", "Make a table with {c}: {x}", "Write a table with the columns {c}.\n{x}", "Format as a markdown table ({c}): {x}", "{x}\nMake a table with {c}.", "Show this as a table with the columns {c}: {x}", "Create a table with {c} for: {x}", "Turn this into a markdown table with {c}: {x}"])
        return ask.replace("{c}", columns).replace("{x}", text), markdown(head, rows)
    if kind < 8:
        ask = s.pick(["Write CSV with the header {c}: {x}", "Make CSV with the columns {c}: {x}", "{x}\nConvert to CSV with {c}.", "Format as CSV ({c}): {x}"])
        return ask.replace("{c}", columns).replace("{x}", text), "\n".join(",".join(r) for r in [head, *rows])
    if kind == 8:
        csv = "\n".join(",".join(r) for r in [head, *rows])
        return s.pick(["Turn this CSV into a markdown table:\n{x}", "Convert this CSV to a table:\n{x}", "{x}\nMake a table of this CSV."]).replace("{x}", csv), markdown(head, rows)
    return s.pick(["Turn this table into CSV:\n{x}", "Convert this table to CSV:\n{x}", "{x}\nWrite this as CSV."]).replace("{x}", markdown(head, rows)), "\n".join(",".join(r) for r in [head, *rows])
