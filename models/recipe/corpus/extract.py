"""Fields of a message as JSON, with the keys that were asked for."""

from __future__ import annotations

import json

from . import words as W
from .sampler import Sampler, sentence

# kind: list of (key spellings, value drawer, clauses)
KINDS = {
    "order": [
        (["name", "customer", "customer_name"], lambda s: s.full(), ["{x} placed an order", "my name is {x}", "the customer is {x}", "this is {x}"]),
        (["order_id", "order", "order_number", "id"], lambda s: s.order_id(), ["the order number is {x}", "it is about order {x}", "order {x}", "I ordered under {x}"]),
        (["item", "product", "article"], lambda s: s.item(), ["I bought a {x}", "the product is a {x}", "the {x} is broken", "please send a {x}"]),
        (["quantity", "amount", "count"], lambda s: s.quantity(), ["I need {x} pieces", "the quantity is {x}", "{x} pieces please"]),
        (["price", "total"], lambda s: s.amount(), ["the price is {x}", "the total is {x}", "I paid {x}"]),
        (["city", "destination"], lambda s: s.city(), ["please ship it to {x}", "deliver to {x}", "it goes to {x}"]),
        (["email", "e-mail", "mail"], lambda s: s.email(), ["my e-mail is {x}", "write to {x}", "contact me at {x}"]),
        (["card", "card_number"], lambda s: s.placeholder("CARD"), ["charge card {x}", "I paid with card {x}", "the card is {x}"]),
    ],
    "contact": [
        (["name", "full_name"], lambda s: s.full(), ["my name is {x}", "I am {x}", "this is {x}", "please add {x}"]),
        (["email", "e-mail", "mail"], lambda s: s.email(), ["my e-mail is {x}", "write to {x}", "you can mail me at {x}"]),
        (["phone", "phone_number", "telephone"], lambda s: s.phone(), ["my phone number is {x}", "call me on {x}", "phone: {x}"]),
        (["company", "employer"], lambda s: s.company(), ["I work for {x}", "I am with {x}", "my company is {x}"]),
        (["city", "location"], lambda s: s.city(), ["I live in {x}", "our office is in {x}", "I am based in {x}"]),
        (["role", "job", "job_title"], lambda s: s.role(), ["my job is {x}", "my role is {x}", "I work as a {x}"]),
        (["iban", "account"], lambda s: s.placeholder("IBAN"), ["my IBAN is {x}", "my account is {x}"]),
    ],
    "invoice": [
        (["invoice", "invoice_number", "invoice_id", "number"], lambda s: s.order_id(), ["invoice {x}", "the invoice number is {x}", "this is about invoice {x}"]),
        (["total", "amount"], lambda s: s.amount(), ["the total is {x}", "the amount is {x}", "please pay {x}"]),
        (["due", "due_date", "date"], lambda s: s.date(), ["it is due on {x}", "pay before {x}", "the due date is {x}"]),
        (["company", "vendor", "supplier"], lambda s: s.company(), ["it comes from {x}", "the supplier is {x}", "{x} sent it"]),
        (["iban", "account"], lambda s: s.placeholder("IBAN"), ["transfer it to {x}", "the IBAN is {x}", "pay to {x}"]),
        (["email", "contact"], lambda s: s.email(), ["questions go to {x}", "write to {x}"]),
    ],
    "incident": [
        (["service", "system", "component"], lambda s: s.service(), ["the {x} service is down", "the {x} service fails", "users report errors in the {x} service"]),
        (["severity", "priority"], lambda s: s.pick(["low", "medium", "high", "critical"]), ["the severity is {x}", "severity {x}", "we rate it {x}"]),
        (["start", "time", "started"], lambda s: s.time(), ["it started at {x}", "it began at {x}", "the first alert came at {x}"]),
        (["region", "site"], lambda s: s.pick(W.REGIONS), ["the region is {x}", "it affects {x}", "only {x} is affected"]),
        (["cause", "reason"], lambda s: s.cause(), ["the cause is {x}", "it was caused by {x}"]),
        (["ip", "host", "address"], lambda s: s.placeholder("IP"), ["the host is {x}", "the address is {x}", "look at {x}"]),
        (["owner", "engineer", "on_call"], lambda s: s.full(), ["{x} is on call", "{x} works on it", "the owner is {x}"]),
    ],
    "meeting": [
        (["topic", "subject", "title"], lambda s: s.pick(["budget", "planning", "design", "security", "sales", "hiring", "roadmap", "release", "training", "support"]), ["the topic is {x}", "we talk about {x}", "it is about {x}"]),
        (["day", "date"], lambda s: s.day(), ["we meet on {x}", "it is on {x}", "the meeting is on {x}"]),
        (["time", "start"], lambda s: s.time(), ["we start at {x}", "the time is {x}", "it begins at {x}"]),
        (["room", "place", "location"], lambda s: s.room(), ["we meet in {x}", "the place is {x}", "we are in {x}"]),
        (["organizer", "host", "organiser"], lambda s: s.full(), ["{x} invites you", "the host is {x}", "{x} organises it"]),
        (["email", "contact"], lambda s: s.email(), ["answer to {x}", "please confirm to {x}"]),
    ],
    "ticket": [
        (["ticket", "ticket_id", "id"], lambda s: s.order_id(), ["ticket {x}", "the ticket is {x}", "see ticket {x}"]),
        (["user", "reporter", "name"], lambda s: s.full(), ["{x} reports a problem", "the user is {x}", "{x} opened it"]),
        (["device", "item"], lambda s: s.item(), ["the {x} does not work", "the {x} is broken", "it is about the {x}"]),
        (["priority", "urgency"], lambda s: s.pick(["low", "medium", "high"]), ["the priority is {x}", "priority {x}", "{x} priority"]),
        (["phone", "callback"], lambda s: s.phone(), ["call back on {x}", "the phone number is {x}"]),
        (["email", "contact"], lambda s: s.email(), ["the contact is {x}", "reply to {x}"]),
    ],
    "shipment": [
        (["tracking", "tracking_number", "parcel"], lambda s: s.order_id(), ["parcel {x}", "the tracking number is {x}"]),
        (["carrier"], lambda s: s.pick(W.CARRIERS), ["{x} delivers it", "it was sent with {x}", "the carrier is {x}"]),
        (["from", "origin"], lambda s: s.city(), ["it comes from {x}", "it left {x}"]),
        (["to", "destination"], lambda s: s.city(), ["it goes to {x}", "it is on the way to {x}"]),
        (["recipient", "receiver", "name"], lambda s: s.full(), ["it is for {x}", "the recipient is {x}"]),
        (["weight"], lambda s: f"{s.number(1, 40)} kg", ["it weighs {x}", "the weight is {x}"]),
    ],
}


def draw(s: Sampler, low=2, high=5):
    """A message, the drawn fields, and all fields of the kind."""
    kind = s.pick(list(KINDS))
    fields = s.some(KINDS[kind], min(s.number(low, high), len(KINDS[kind])))
    record, clauses = [], []
    for keys, value, said in fields:
        x = value(s)
        record.append((s.pick(keys) if s.chance(.6) else keys[0], x))
        clauses.append(s.pick(said).replace("{x}", x))
    joined = s.pick([". ", ". ", ", ", "\n", " and "]) if len(clauses) < 4 else s.pick([". ", ". ", ", "])
    text = joined.join(sentence(c) if joined in (". ", "\n") else c for c in clauses)
    text = sentence(text) + ("." if joined != "\n" else "")
    if s.chance(.25):
        text = s.pick(["Hello, ", "Hi, ", "Dear team, ", "Good morning. ", "Hello! "]) + text
    if s.chance(.2):
        text += s.pick([" Thank you.", " Thanks!", " Please help.", " Kind regards", " Best regards"])
    return kind, record, text


ASKS = ["Extract {k} as JSON: {t}", "Extract {k} as JSON.\n{t}", "Extract {k} from this text as JSON: {t}", "Return JSON with {k}.\nText: {t}", "Return a JSON object with the keys {k}.\n{t}", "{t}\nExtract {k} as JSON.",
        "{t}\n\nReturn {k} as JSON.", "Get {k} from this message as JSON: {t}", "Give me {k} as JSON. {t}", "Turn this {w} into JSON with {k}: {t}", "Fill this JSON with the keys {k}: {t}", "Extract the fields {k} to JSON.\n\n{t}",
        "JSON with {k}: {t}", "Read the {w} and return JSON with {k}:\n{t}", "From the text, extract {k}. Answer in JSON.\n{t}"]


def extract_json(s: Sampler):
    kind, record, text = draw(s)
    seen = {}
    for key, value in record:
        seen.setdefault(key, value)
    keys = list(seen)
    if s.chance(.45):
        keys = s.shuffled(keys)
    if len(keys) > 1 and s.chance(.35):
        keys = keys[: s.number(1, len(keys) - 1)]
    if s.chance(.12):
        absent = [k for spell, _, _ in KINDS[kind] for k in spell[:1] if not any(r in spell for r in seen)]
        if absent:
            keys.insert(s.number(0, len(keys)), s.pick(absent))
    form = s.number(0, 5)
    names = [k.replace("_", " ") for k in keys] if form == 5 and s.chance(.5) else keys
    asked = ", ".join(names) if form < 2 or len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
    ask = s.pick(ASKS).replace("{k}", asked).replace("{w}", kind).replace("{t}", text)
    return ask, json.dumps({k: seen.get(k) for k in keys}, ensure_ascii=False)


def extract_lines(s: Sampler):
    """The same fields as `key: value` lines or as one plain value."""
    kind, record, text = draw(s)
    seen = dict(reversed(record))
    keys = [k for k in dict(record)]
    if s.chance(.5):
        key = s.pick(keys)
        noun = key.replace("_", " ")
        ask = s.pick(["What is the {n}? {t}", "{t}\nWhat is the {n}?", "Extract the {n}: {t}", "Find the {n} in this text: {t}", "{t} What is the {n}?"])
        value = seen[key]
        return ask.replace("{n}", noun).replace("{t}", text), value if ask.startswith(("Extract", "Find")) else f"The {noun} is {value}."
    ask = s.pick(["List {k} of this {w}, one per line: {t}", "List {k} from the text as key: value lines.\n{t}", "{t}\nList {k}, one per line."])
    return ask.replace("{k}", ", ".join(keys)).replace("{w}", kind).replace("{t}", text), "\n".join(f"{k}: {seen[k]}" for k in keys)
