"""Labels for short messages: sentiment, urgency, topic, intent, yes or no."""

from __future__ import annotations

from .sampler import Sampler, listing

SENTIMENT = {
    "positive": ["I love the new {i}.", "The {i} works [great|perfectly|very well].", "[Great|Excellent|Fantastic|Wonderful] service[| from {n}], thank you!", "I am very [happy|pleased|satisfied] with the {i}.", "The team in {c} was [friendly|helpful|very kind].", "Best {i} I ever had.", "Thank you {n}, that was [quick|perfect|great].", "The delivery was fast and the {i} is beautiful.", "Everything went well.", "I will gladly order from {co} again.", "What a [lovely|great|nice] {i}!", "{n} solved my problem at once.", "The {i} is better than I expected."],
    "negative": ["I hate the new {i}.", "The {i} is [broken|terrible|useless|awful|a disaster].", "[Terrible|Awful|Horrible|Bad] service[| from {n}], never again.", "I am very [angry|disappointed|unhappy|upset] with the {i}.", "The team in {c} was [rude|slow|unfriendly].", "Worst {i} I ever had.", "Nobody answers my messages.", "The delivery was late and the {i} is damaged.", "Everything went wrong.", "I will never order from {co} again.", "What a [bad|ugly|poor] {i}!", "{n} ignored my problem.", "The {i} is worse than I expected.", "I want my money back, the {i} failed after a day."],
    "neutral": ["The {i} arrived on {d}.", "The {i} is {col}.", "My order number is {o}.", "The office is in {c}.", "{n} will call on {d}.", "The meeting is at {t}.", "I ordered a {i} from {co}.", "The parcel weighs 2 kg.", "The invoice is attached.", "The {i} has two parts.", "My e-mail is {e}.", "{n} works in {c}."],
}
URGENCY = {
    "high": ["The {v} server is down and [nobody can work|all customers are affected]!", "[Urgent|URGENT]: the {v} service [fails|is down|lost data].", "We need help [immediately|right now|at once], {v} is broken.", "The production database is [gone|corrupt|full].", "Fire alarm in {c}!", "Customers cannot pay since {t}, please fix this now.", "Our site is offline.", "There is a data leak in {v}, act now.", "Emergency: the {i} is burning.", "All users lost access to {v}."],
    "medium": ["The {v} service is [slow|a bit slow] today.", "Please fix the {v} page this week.", "Some users see errors in {v}.", "The report must be ready by {d}.", "One printer does not work.", "The {v} backup failed once, please check it by {d}.", "My {i} broke, I need a new one this week.", "A few e-mails arrive late."],
    "low": ["When you have time, please change the {i}.", "[No hurry|No rush], but the {v} page has a typo.", "It would be nice to have a {col} {i}.", "Just an idea: a new logo for {v}.", "Sometime next year we could move to {c}.", "Small question about the {i}, no rush.", "Please update my photo when you can.", "The colour of the {v} page could be nicer."],
}
TOPIC = {
    "billing": ["I was charged twice for order {o}.", "The invoice {o} has a wrong total.", "Card {k} was charged {a}.", "Please send me the invoice.", "My payment of {a} failed.", "I want a receipt for {a}.", "Why did I pay {a}?", "Transfer the refund to {b}."],
    "shipping": ["Where is my parcel {o}?", "The delivery to {c} is late.", "The package was sent to {c} by mistake.", "When will the {i} arrive?", "The courier did not come on {d}.", "Please ship the {i} to {c}.", "My parcel got lost on the way."],
    "login": ["I forgot my password.", "I cannot log in with {e}.", "My account is locked.", "The reset link does not work.", "Sign in fails since {d}.", "Please reset the password of {n}.", "I do not get the login code on {p}."],
    "network": ["The VPN drops every hour.", "The wifi in {c} is slow.", "The host {ip} does not answer.", "We lose packets between {c} and the office.", "The firewall blocks {ip}.", "No internet connection in {c}.", "DNS does not resolve the {v} name."],
    "hardware": ["The {i} does not turn on.", "My keyboard is broken.", "The printer has no toner.", "The screen of the laptop is cracked.", "The fan of the server makes noise.", "The mouse stopped working.", "A disk failed in the server."],
    "meeting": ["Can we meet on {d} at {t}?", "The planning meeting moves to {d}.", "Please book a room for {t}.", "Let us have a call on {d}.", "Who joins the review on {d}?", "I cannot attend the meeting on {d}."],
    "hiring": ["{n} applies for the job as {r}.", "We look for a new {r}.", "The interview with {n} is on {d}.", "My CV is attached.", "When does the new {r} start?", "We have an open position for a {r}."],
}
INTENT = {
    "refund": ["I want my money back.", "Please refund {a} to card {k}.", "Refund order {o}.", "I returned the {i}, where is my money?", "Give me my {a} back."],
    "cancel": ["Please cancel order {o}.", "I want to cancel my subscription.", "Cancel the {i}.", "I do not want the {i} any more, cancel it.", "Stop my order {o}."],
    "order": ["I want to buy a {i}.", "I would like to order [two|three|ten] {i}s.", "Please send me a {i}.", "Can I order a {col} {i}?", "I need a new {i}, please order one."],
    "question": ["How does the {i} work?", "When do you open?", "What does the {i} cost?", "Do you ship to {c}?", "Is the {i} available in {col}?", "Which sizes do you have?"],
    "complaint": ["The {i} is broken and I am angry.", "Your service is terrible.", "This is the third time that order {o} is wrong!", "I am very unhappy with {n}.", "The {i} is of bad quality."],
    "greeting": ["Hello!", "Good morning {n}.", "Hi there", "Hey, how are you?", "Good evening!"],
    "thanks": ["Thank you very much.", "Thanks {n}!", "Many thanks for your help.", "Thank you for the quick answer."],
}
YESNO = [
    ("Is this message urgent?", URGENCY["high"], URGENCY["low"] + SENTIMENT["neutral"]), ("Is this a complaint?", INTENT["complaint"] + SENTIMENT["negative"], SENTIMENT["positive"] + INTENT["question"] + INTENT["greeting"]),
    ("Is this text positive?", SENTIMENT["positive"], SENTIMENT["negative"]), ("Is this text negative?", SENTIMENT["negative"], SENTIMENT["positive"]), ("Is the customer happy?", SENTIMENT["positive"], SENTIMENT["negative"]),
    ("Does the customer want a refund?", INTENT["refund"], INTENT["order"] + INTENT["question"] + SENTIMENT["positive"]), ("Is this about billing?", TOPIC["billing"], TOPIC["network"] + TOPIC["meeting"] + TOPIC["hardware"]),
    ("Is this about a meeting?", TOPIC["meeting"], TOPIC["billing"] + TOPIC["login"] + TOPIC["hardware"]), ("Does this text contain personal data?", ["Write to {e}.", "Card {k} was charged.", "My IBAN is {b}.", "Call {p}.", "My e-mail is {e}."], ["The {i} is {col}.", "The office is closed on {d}.", "The {v} server is slow."]),
    ("Is this a question?", INTENT["question"], SENTIMENT["neutral"] + SENTIMENT["negative"]),
]
TASKS = [("sentiment", SENTIMENT), ("urgency", URGENCY), ("topic", TOPIC), ("intent", INTENT)]


def message(s: Sampler, forms) -> str:
    return s.say(s.pick(forms), i=s.item(), n=s.first(), c=s.city(), co=s.company(), d=s.day(), col=s.colour(), o=s.order_id(), t=s.time(), e=s.email(), v=s.service(), a=s.amount(),
                 k=s.placeholder("CARD"), b=s.placeholder("IBAN"), p=s.phone(), ip=s.placeholder("IP"), r=s.role())


def classify(s: Sampler):
    if s.chance(.22):
        question, yes, no = s.pick(YESNO)
        answer = s.chance(.5)
        text = message(s, yes if answer else no)
        ask = s.pick(["{q} {x}", "{q} Answer yes or no. {x}", "{x}\n{q}", "{q}\n{x}", "{q} Answer yes or no.\n{x}", "{x} {q} Answer yes or no.", "Text: {x}\nQuestion: {q}"])
        return ask.replace("{q}", question).replace("{x}", text), "Yes" if answer else "No"
    name, labels = s.pick(TASKS)
    label = s.pick(list(labels))
    text = message(s, labels[label])
    if name in ("topic", "intent"):
        shown = s.shuffled({label, *s.some(list(labels), s.number(2, 4))} )
        shown = sorted(shown) if s.chance(.2) else s.shuffled(sorted(shown))
    else:
        shown = s.shuffled(list(labels)) if s.chance(.5) else list(labels)
        if name == "sentiment" and label != "neutral" and s.chance(.3):
            shown = [x for x in shown if x != "neutral"]
    options = listing(shown, "or") if s.chance(.6) else ", ".join(shown)
    with_options = ["Classify the {n} as {o}: {x}", "What is the {n} of this message, {o}? {x}", "Is the {n} {o}? {x}", "{n} ({o}): {x}", "Choose the {n} ({o}): {x}", "Classify: {x}\nLabels: {o}", "{x}\nClassify the {n} ({o}).", "Classify this message as {o}.\n{x}", "Which {n} fits: {o}? {x}", "{x}\nIs this {o}?"]
    without = ["What is the {n} of this message? {x}", "Classify the {n}: {x}", "What is the {n}? {x}", "{x}\nWhat is the {n}?", "Give the {n} in one word: {x}", "{n} of this text? {x}"]
    ask = s.pick(without if s.chance(.35) else with_options).replace("{n}", name).replace("{o}", options).replace("{x}", text)
    return ask[:1].upper() + ask[1:], label
