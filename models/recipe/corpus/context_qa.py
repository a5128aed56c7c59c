"""Answer a question from a text that the user supplies.

A *frame* is one relation: how to draw it, how to state it, how to ask for it.
Contexts hold several facts, often of the same frame about other subjects, so
the answer has to be looked up and cannot be guessed.
"""

from __future__ import annotations

from . import words as W
from .sampler import KIND_NOUN, KINDS, Sampler, sentence

UNKNOWN = "The text does not say."


class Fact:
    """A drawn relation: statements, questions, the full and the short answer."""

    def __init__(self, key, states, asks, full, short):
        self.key, self.states, self.asks, self.full, self.short = key, states, asks, full, short


def owner(s):
    v, n = s.service(), s.full()
    r = s.pick(["owner", "lead", "maintainer"])
    return Fact(v, [f"{n} is the {r} of the {v} service.", f"The {r} of the {v} service is {n}."],
                [f"Who is the {r} of the {v} service?", f"Who is the {r} of {v}?"], f"{n} is the {r} of the {v} service.", n)


def job(s):
    n, r = s.full(), s.role()
    a = "an" if r[0] in "aeiou" else "a"
    return Fact(n, [f"{n} works as {a} {r}.", f"{n} is {a} {r}."], [f"What is the job of {n}?", f"What does {n} work as?", f"What is {n}'s job?"], f"{n} is {a} {r}.", r)


def lives(s):
    n, c = s.first(), s.city()
    return Fact(n, [f"{n} lives in {c}.", f"{n} has a flat in {c}."] [:1], [f"Where does {n} live?", f"In which city does {n} live?", f"Which city does {n} live in?"], f"{n} lives in {c}.", c)


def meeting(s):
    t, d, h = s.pick(["budget", "planning", "design", "security", "sales", "team", "project", "board", "kick-off", "review"]), s.day(), s.time()
    f = s.number(0, 2)
    if f == 0:
        r = s.room()
        return Fact(t, [f"The {t} meeting is in {r}.", f"The {t} meeting takes place in {r}."], [f"Where is the {t} meeting?", f"In which room is the {t} meeting?"], f"The {t} meeting is in {r}.", r)
    if f == 1:
        return Fact(t, [f"The {t} meeting is on {d} at {h}.", f"The {t} meeting takes place on {d} at {h}."], [f"When is the {t} meeting?", f"When does the {t} meeting take place?"], f"The {t} meeting is on {d} at {h}.", f"{d} at {h}")
    return Fact(t, [f"The {t} meeting is on {d}.", f"The {t} meeting was moved to {d}."], [f"On which day is the {t} meeting?", f"When is the {t} meeting?", f"What day is the {t} meeting?"], f"The {t} meeting is on {d}.", d)


def order(s):
    o = s.order_id()
    f = s.number(0, 3)
    if f == 0:
        c = s.city()
        return Fact(o, [f"Order {o} was shipped to {c}.", f"Order {o} goes to {c}."][:1], [f"Where was order {o} shipped to?", f"Where was order {o} shipped?"], f"Order {o} was shipped to {c}.", c)
    if f == 1:
        d = s.date()
        return Fact(o, [f"Order {o} was shipped on {d}.", f"Order {o} left the warehouse on {d}."], [f"When was order {o} shipped?", f"When did order {o} ship?"], f"Order {o} was shipped on {d}.", d)
    if f == 2:
        i = s.item()
        return Fact(o, [f"Order {o} contains a {i}.", f"A {i} is in order {o}."], [f"What is in order {o}?", f"What does order {o} contain?"], f"Order {o} contains a {i}.", i)
    st = s.pick(["open", "paid", "delayed", "cancelled", "shipped", "delivered", "returned", "on hold"])
    return Fact(o, [f"Order {o} is {st}.", f"The status of order {o} is {st}."], [f"What is the status of order {o}?", f"Is there news about order {o}?"][:1], f"Order {o} is {st}.", st)


def price(s):
    i, a = s.item(), s.amount()
    return Fact(i, [f"The {i} costs {a}.", f"The price of the {i} is {a}."], [f"How much does the {i} cost?", f"What does the {i} cost?", f"What is the price of the {i}?", f"How much is the {i}?"], f"The {i} costs {a}.", a)


def contact(s):
    n, k = s.first(), s.pick(KINDS + ("EMAIL", "EMAIL", "PHONE"))
    p, w = s.private(k), KIND_NOUN[k]
    w = s.pick(["e-mail", "email", "e-mail address"]) if k == "EMAIL" else s.pick(["card", "card number"]) if k == "CARD" else w
    return Fact(n, [f"The {w} of {n} is {p}.", f"{n}'s {w} is {p}.", f"{n} has the {w} {p}."], [f"What is the {w} of {n}?", f"What is {n}'s {w}?", f"Which {w} does {n} have?"], f"The {w} of {n} is {p}.", p)


def reach(s):
    n = s.full() if s.chance(.4) else s.pick(["the " + s.team() + " team", s.company(), "the help desk"])
    p, by = (s.email(), "at") if s.chance(.6) else (s.phone(), "at")
    return Fact(n, [f"You can reach {n} {by} {p}.", f"Contact {n} {by} {p}.", f"For questions, write to {n} {by} {p}."][: 3 if "EMAIL" in p else 2],
                [f"How can I reach {n}?", f"How do I contact {n}?", f"How can I contact {n}?"], f"You can reach {n} {by} {p}.", p)


def server(s):
    v = s.service()
    f = s.number(0, 3)
    if f == 0:
        x = s.version()
        return Fact(v, [f"The {v} server runs version {x}.", f"Version {x} runs on the {v} server."], [f"Which version does the {v} server run?", f"What version runs on the {v} server?"], f"The {v} server runs version {x}.", x)
    if f == 1:
        x = s.pick(["eu-west", "eu-north", "us-east", "us-west", "ap-south", "eu-central", "sa-east"])
        return Fact(v, [f"The {v} server is in {x}.", f"The {v} server runs in {x}."], [f"Where is the {v} server?", f"In which region is the {v} server?"], f"The {v} server is in {x}.", x)
    if f == 2:
        x = s.pick(["down", "healthy", "slow", "offline", "degraded", "up", "full"])
        return Fact(v, [f"The {v} server is {x}.", f"The {v} server is {x} now."], [f"What is the state of the {v} server?", f"How is the {v} server?", f"What is the status of the {v} server?"], f"The {v} server is {x}.", x)
    x = s.placeholder("IP")
    return Fact(v, [f"The {v} server has the address {x}.", f"The IP address of the {v} server is {x}."], [f"What is the IP address of the {v} server?", f"What is the address of the {v} server?", f"Which address does the {v} server have?"], f"The IP address of the {v} server is {x}.", x)


def incident(s):
    o, c, m = s.pick(["outage", "incident", "failure", "delay"]), s.cause(), s.number(2, 90)
    v = s.service()
    if s.chance(.6):
        return Fact(v, [f"The {v} {o} was caused by {c}.", f"The cause of the {v} {o} was {c}."], [f"What caused the {v} {o}?", f"Why did the {v} {o} happen?", f"What was the cause of the {v} {o}?"], f"The {v} {o} was caused by {c}.", c)
    return Fact(v, [f"The {v} {o} lasted {m} minutes."], [f"How long did the {v} {o} last?", f"How long was the {v} {o}?"], f"The {v} {o} lasted {m} minutes.", f"{m} minutes")


def ticket(s):
    o, n = s.order_id(), s.first()
    if s.chance(.6):
        return Fact(o, [f"Ticket {o} is assigned to {n}.", f"{n} works on ticket {o}."], [f"Who works on ticket {o}?", f"Who is ticket {o} assigned to?"], f"{n} works on ticket {o}.", n)
    p = s.pick(["high", "low", "medium", "urgent"])
    return Fact(o, [f"Ticket {o} has {p} priority.", f"The priority of ticket {o} is {p}."], [f"What is the priority of ticket {o}?", f"Which priority does ticket {o} have?"], f"The priority of ticket {o} is {p}.", p)


def invoice(s):
    o = s.order_id()
    if s.chance(.5):
        a = s.amount()
        return Fact(o, [f"Invoice {o} is for {a}.", f"The total of invoice {o} is {a}."], [f"What is the total of invoice {o}?", f"How much is invoice {o}?"], f"The total of invoice {o} is {a}.", a)
    d = s.date()
    return Fact(o, [f"Invoice {o} is due on {d}.", f"Invoice {o} must be paid by {d}."], [f"When is invoice {o} due?", f"When must invoice {o} be paid?"], f"Invoice {o} is due on {d}.", d)


def colour(s):
    i, c = s.item(), s.colour()
    return Fact(i, [f"The {i} is {c}.", f"The colour of the {i} is {c}."], [f"What colour is the {i}?", f"What is the colour of the {i}?", f"Which colour does the {i} have?"], f"The {i} is {c}.", c)


def place(s):
    i, p = s.item(), s.pick(["on the desk", "in the drawer", "under the table", "behind the door", "in the kitchen", "on the shelf", "in the car", "in the office", "next to the printer", "in the warehouse"])
    return Fact(i, [f"The {i} is {p}."], [f"Where is the {i}?", f"Where can I find the {i}?"], f"The {i} is {p}.", p)


def buys(s):
    n, q, i = s.first(), s.quantity(), s.item()
    return Fact(n, [f"{n} ordered {q} pieces of {i}.", f"{n} bought {q} pieces of {i}."][:1], [f"What did {n} order?", f"What has {n} ordered?"], f"{n} ordered {q} pieces of {i}.", f"{q} pieces of {i}")


def hours(s):
    w, a, b = s.pick(["shop", "office", "library", "canteen", "warehouse", "support desk", "gym", "museum"]), s.time(), s.time()
    if s.chance(.5):
        return Fact(w, [f"The {w} opens at {a}."], [f"When does the {w} open?", f"What time does the {w} open?"], f"The {w} opens at {a}.", a)
    return Fact(w, [f"The {w} closes at {b}."], [f"When does the {w} close?", f"What time does the {w} close?"], f"The {w} closes at {b}.", b)


def backup(s):
    v, h = s.service(), s.time()
    d = s.day()
    return Fact(v, [f"The {v} backup runs at {h}.", f"The {v} backup starts at {h}."], [f"When does the {v} backup run?", f"At what time does the {v} backup run?"], f"The {v} backup runs at {h}.", h) if s.chance(.5) else \
        Fact(v, [f"The {v} release is planned for {d}.", f"We plan the {v} release for {d}."], [f"When is the {v} release?", f"When is the {v} release planned?"], f"The {v} release is planned for {d}.", d)


def charge(s):
    p, a = s.placeholder("CARD"), s.amount()
    n = s.first()
    return Fact(n, [f"{n} paid {a} with card {p}.", f"{n} paid {a} by card {p}."], [f"How much did {n} pay?"], f"{n} paid {a}.", a) if s.chance(.5) else \
        Fact(n, [f"{n} paid {a} with card {p}.", f"{n} paid {a} by card {p}."], [f"Which card did {n} use?", f"What card did {n} pay with?", f"With which card did {n} pay?"], f"{n} used card {p}.", p)


def code_of(s):
    w, c = s.pick(["door", "gate", "safe", "locker", "garage", "wifi", "alarm", "printer", "office", "lift"]), s.code()
    return Fact(w, [f"The {w} code is {c}.", f"The code of the {w} is {c}."], [f"What is the {w} code?", f"What is the code of the {w}?", f"What is the code for the {w}?"], f"The {w} code is {c}.", c)


def project(s):
    n, d = f"{s.word().capitalize()}", s.date()
    if s.chance(.5):
        return Fact(n, [f"The deadline of project {n} is {d}.", f"Project {n} ends on {d}."][:1], [f"What is the deadline of project {n}?", f"When is the deadline of project {n}?"], f"The deadline of project {n} is {d}.", d)
    p = s.full()
    return Fact(n, [f"{p} manages project {n}.", f"Project {n} is managed by {p}."], [f"Who manages project {n}?", f"Who is the manager of project {n}?"], f"{p} manages project {n}.", p)


def company(s):
    n, c = s.full(), s.company()
    if s.chance(.5):
        return Fact(n, [f"{n} works for {c}.", f"{n} works at {c}."], [f"Which company does {n} work for?", f"Where does {n} work?", f"Who does {n} work for?"], f"{n} works for {c}.", c)
    t = s.city()
    return Fact(c, [f"{c} is based in {t}.", f"{c} has its office in {t}."], [f"Where is {c} based?", f"In which city is {c}?", f"Where is {c}?"], f"{c} is based in {t}.", t)


def event(s):
    """Who did what where: the open-ended frame."""
    verb = s.pick([v for v in W.VERBS if v not in ("need", "leave")])
    past = W.VERBS[verb][1]
    n = s.pick([s.first, s.full])() if s.chance(.8) else f"the {s.role()}"
    o = s.pick([lambda: f"the {s.item()}", lambda: f"the {s.doc()}", lambda: f"{s.quantity()} {s.pick(W.GROCERIES)}", lambda: f"order {s.order_id()}", lambda: f"the {s.colour()} {s.item()}"])()
    form = s.number(0, 5)
    if form == 0:
        return Fact(o, [f"{n} {past} {o}."], [f"Who {past} {o}?"], f"{n} {past} {o}.", n)
    if form == 1:
        return Fact(n, [f"{n} {past} {o}."], [f"What did {n} {verb.removesuffix(' for')}{' for' if verb.endswith(' for') else ''}?"], f"{n} {past} {o}.", o)
    if form == 2:
        t = s.pick([f"on {s.day()}", f"at {s.time()}", "yesterday", "last week", "this morning", f"on {s.date()}"])
        return Fact(o, [f"{n} {past} {o} {t}.", f"{sentence(t)}, {n} {past} {o}."], [f"When did {n} {verb} {o}?"], f"{n} {past} {o} {t}.", t)
    if form == 3:
        c = f"in {s.city()}"
        return Fact(o, [f"{n} {past} {o} {c}."], [f"Where did {n} {verb} {o}?"], f"{n} {past} {o} {c}.", c)
    if form == 4:
        m = s.first()
        return Fact(o, [f"{n} {past} {o} for {m}."], [f"For whom did {n} {verb} {o}?", f"Who did {n} {verb} {o} for?"], f"{n} {past} {o} for {m}.", m)
    r = s.pick(["because it was broken", "because it was old", f"because {s.first()} asked for it", "because it was late", "because it was wrong", "to save time", "to help a customer"])
    return Fact(o, [f"{n} {past} {o} {r}."], [f"Why did {n} {verb} {o}?"], f"{n} {past} {o} {r}.", r)


ATTRIBUTES = "name colour size weight owner age height type number key version price location capacity speed author title language brand model mode limit port id status name code label length width date level goal address manager sponsor topic rank score username path format budget salary team country region origin shape unit".split()


def attribute(s):
    """Any property of anything: nothing to memorise, all to look up."""
    a = s.pick(ATTRIBUTES)
    t = s.pick([lambda: "the " + s.item(), lambda: "the " + s.word(), lambda: s.first(), lambda: f"the {s.colour()} {s.item()}", lambda: "order " + s.order_id(), lambda: s.company(), lambda: f"the {s.service()} {s.pick(['server', 'service', 'team', 'job'])}"])()
    v = s.pick([s.word, s.word, s.first, s.city, s.code, s.quantity, s.colour, s.full, s.placeholder])()
    forms = [f"The {a} of {t} is {v}."]
    if not t.startswith(("the ", "order ")):
        forms.append(f"{t}'s {a} is {v}.")
    return Fact(t + a, forms, [f"What is the {a} of {t}?", f"Tell me the {a} of {t}."] + ([f"What is {t}'s {a}?"] if len(forms) > 1 else []), f"The {a} of {t} is {v}.", v)


def belongs(s):
    i, n = s.pick([lambda: f"the {s.colour()} {s.item()}", lambda: f"the {s.item()}", lambda: f"the {s.pick(W.ADJECTIVES)} {s.item()}"])(), s.pick([s.first, s.first, s.full, s.company])()
    return Fact(i, [f"{i} belongs to {n}.", f"{n} owns {i}."], [f"Who owns {i}?", f"Whose is {i}?", f"Who does {i} belong to?", f"To whom does {i} belong?"], f"{i} belongs to {n}.", n)


def likes(s):
    n = s.first()
    verb, base = s.pick([("likes", "like"), ("wants", "want"), ("needs", "need"), ("prefers", "prefer"), ("has", "have"), ("speaks about", "speak about"), ("works on", "work on"), ("studies", "study"), ("waits for", "wait for"), ("asks for", "ask for")])
    v = s.pick([lambda: s.pick(W.GROCERIES), s.word, lambda: "the " + s.item(), lambda: "the " + s.doc(), s.city])()
    return Fact(n, [f"{n} {verb} {v}."], [f"What does {n} {base}?"], f"{n} {verb} {v}.", v) if s.chance(.6) else Fact(n, [f"{n} {verb} {v}."], [f"Who {verb} {v}?"], f"{n} {verb} {v}.", n)


FRAMES = [attribute, attribute, attribute, attribute, belongs, likes, likes, event, event, event, event, owner, job, lives, meeting, order, price, contact, contact, contact, reach, reach, server, incident, ticket, invoice, colour, place, buys, hours, backup, charge, code_of, project, company]

LAYOUTS = ["Context: {c}\nQuestion: {q}", "Context: {c}\n\nQuestion: {q}", "Context: {c} Question: {q}", "{c}\n\n{q}", "{c} {q}", "{c}\n{q}", "Text: {c}\nQuestion: {q}", "Read this: {c}\n{q}", "Here is a note: {c}\n{q}",
           "Answer from the context.\nContext: {c}\nQuestion: {q}", "Question: {q}\nContext: {c}", "{q}\n\n{c}", "{q} {c}", "Use the text to answer.\n{c}\n{q}", "Given the text \"{c}\", {l}", "I know that {m} {q}"]


def draw_facts(s: Sampler, count: int) -> list[Fact]:
    """Facts with distinct subjects; sometimes all of one frame."""
    frames = [s.pick(FRAMES)] * count if s.chance(0.4) else [s.pick(FRAMES) for _ in range(count)]
    facts: dict = {}
    for frame in frames:
        fact = frame(s)
        facts.setdefault(fact.key, fact)
    return list(facts.values())


def lower_first(q: str) -> str:
    return q[:1].lower() + q[1:]


def context_text(s: Sampler, facts) -> str:
    form = s.number(0, 9)
    lines = [s.pick(f.states) for f in facts]
    lines = [sentence(line) for line in lines]
    if form == 0 and len(lines) > 1:
        return "\n".join("- " + line for line in lines)
    return (" " if form < 9 else "\n").join(lines)


def answer_from_context(s: Sampler):
    facts = draw_facts(s, s.pick([1, 1, 2, 2, 3, 3, 4, 5]))
    asked = s.pick(facts)
    question, answer = s.pick(asked.asks), asked.full
    if s.chance(0.1):
        other = draw_facts(s, 1)[0]
        if other.key not in {f.key for f in facts}:
            question, answer = s.pick(other.asks), UNKNOWN
    if answer != UNKNOWN and s.chance(0.12):
        question += s.pick([" Answer briefly.", " Answer with the value only.", " Only the value.", " Give a short answer."])
        answer = asked.short
    context = context_text(s, facts)
    lead = lower_first(context) if context[:4] == "The " else context
    ask = s.pick(LAYOUTS).replace("{c}", context).replace("{q}", question).replace("{l}", lower_first(question)).replace("{m}", lead)
    return ask, sentence(answer) if answer != asked.short else answer
