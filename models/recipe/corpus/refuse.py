"""Questions outside the domain, answered with a pointer to the core model."""

from __future__ import annotations

from . import words as W
from .sampler import Sampler

KNOWLEDGE = "I am a small edge model and do not know that reliably. Please ask the core model."
MATHS = "I cannot calculate reliably. Please ask the core model."
CODE = "I cannot write programs. Please ask the core model."
LIVE = "I have no live data, so I cannot know that. Please ask the core model."
ADVICE = "I cannot give advice on that. Please ask an expert or the core model."
CREATIVE = "I am too small for creative texts. Please ask the core model."
TRANSLATE = "I only work in English. Please ask the core model."

THINGS = """Albert Einstein|Alexander the Great|Antarctica|the Amazon|an atom|Bach|bamboo|Beethoven|a black hole|blockchain|the brain|Buddhism|bees|cancer|Canada|chess|China|
climate change|cricket|Cleopatra|democracy|diabetes|dinosaurs|DNA|the Earth|electricity|elephants|the Eiffel Tower|entropy|evolution|football|the French Revolution|Galileo|Germany|
gold|gravity|the heart|Hinduism|history|inflation|insulin|iron|Japan|jazz|Julius Caesar|Jupiter|the law|light|lightning|lions|Mars|mathematics|
Mexico|the Moon|Mount Everest|Mozart|music|Napoleon|a neural network|Newton|the Nile|the ocean|oxygen|Peru|philosophy|photosynthesis|physics|Picasso|Plato|Pluto|poetry|quantum physics|
a rainbow|relativity|the Roman Empire|Russia|Saturn|Shakespeare|the sky|sound|space|Spain|the stock market|the sun|a supernova|tea|the Titanic|time|the United Nations|a vaccine|Venus|a virus|a volcano|water|whales|wine|World War II|yoga""".replace("\n", "").split("|")
COUNTRIES = "France Germany Italy Spain Norway Sweden Japan China India Brazil Canada Mexico Egypt Kenya Poland Portugal Greece Turkey Peru Chile Austria Belgium Denmark Finland Hungary Iceland Ireland Latvia Nepal Qatar Romania Thailand Ukraine Vietnam Australia".split()

ASKS = [
    (KNOWLEDGE, ["What is the [capital|population|language|currency|flag|president|king|history|biggest city|highest mountain|area] of {c}?",
                 "Who [invented|discovered|wrote|painted|built|founded|found] {t}?", "What is {t}?", "Explain {t}[| to me| in simple words].", "Tell me about {t}.", "When [was|did] {t} [born|begin|end|discovered]?",
                 "Why is {t} [important|famous|big|dangerous|so expensive]?", "How [big|old|far away|heavy|hot|fast] is {t}?", "How does {t} work?", "Where is {t}?", "Who was {t}?", "Where is {c}?", "How many people live in {c}?",
                 "Who [won|lost|played in] the [World Cup|Olympics|final|election] in {y}?", "What happened in {y}?", "Name [three|five|ten] [rivers|cities|mountains|kings|animals|books|films] [in|of|from] {c}.",
                 "Is {t} [real|bigger than the Earth|healthy|true]?", "What do you know about {t}?", "Do you know {t}?", "Which [country|planet|animal|river|language|king|queen|book|film] is the [biggest|oldest|fastest|best|longest]?",
                 "Who is the [president|queen|prime minister|king|chancellor] of {c}?", "What is the meaning of life?", "What is the capital of {c}?", "what is the capital of {c}", "Can you tell me something about {t}?",
                 "Summarise the history of {c}.", "What is the difference between {t} and {u}?", "Compare {t} and {u}."]),
    (MATHS, ["What is {a} [plus|minus|times|divided by|+|-|*|/|x] {b}?", "{a} [+|-|*|/] {b}", "{a} [+|-|*|/] {b} = ?", "Calculate {a} [+|-|*|/] {b}.", "How much is {a} [plus|minus|times] {b}?", "What is {a}% of {b}?", "Solve x + {a} = {b}.",
             "What is the square root of {a}?", "Is {a} a prime number?", "Add {a} and {b}.", "Multiply {a} by {b}.", "Convert {a} [miles|pounds|feet|inches|dollars] to [km|kg|metres|cm|euros].", "What is the [sum|average|product] of {a} and {b}?", "Integrate x^{d}.", "What is {a} squared?"]),
    (CODE, ["Write a [Python|Rust|Java|C|Go|JavaScript|SQL|bash] [program|function|script|query|class] [that sorts a list|to read a file|for a calculator|that adds two numbers|for {w}|that prints hello].", "How do I [sort a list|read a file|reverse a string|parse JSON|write a loop] in [Python|Rust|Java|C|Go]?",
            "Write code to [parse {w} files|sort numbers|download a page|send an e-mail].", "Fix this code: [print(x|for i in range(10)|x = = 1|let x = 5].", "Debug my [Python|Rust|Java|C] [code|program|script].", "What does this code do: [x += 1|fn main() {{}}|import os|SELECT * FROM users]?", "Implement a [linked list|binary search|hash map|queue|stack] in [Python|Rust|C|Java].", "Can you write code?", "Can you program?", "Generate a [regex|SQL query|Dockerfile|Makefile|shell script] for {w}."]),
    (LIVE, ["What is the weather [today|tomorrow|now|like] in {city}?", "How is the weather[| today| tomorrow]?", "Will it rain [today|tomorrow] in {city}?", "What is the [news|latest news|news today]?", "What is the [stock price|share price] of {company}?", "What is the price of [gold|oil|bitcoin|gas][| today| now]?",
            "Who won the [game|match|race] [yesterday|today|last night]?", "What is the exchange rate of [the dollar|the euro|the pound]?", "How is the traffic in {city}?", "When is the next [train|bus|flight] to {city}?", "Search the web for {t}.", "Google {t}.", "Is {company} open [today|now]?", "What is on TV tonight?", "Find a [hotel|restaurant|flight] in {city}."]),
    (ADVICE, ["I have a [headache|fever|cold|rash|cough]. What should I do?", "Which [medicine|pill|drug] should I take?", "Should I buy [stocks|shares|bitcoin|a house|{company} shares]?", "Can I sue [my boss|{company}|my neighbour]?", "How do I lose weight?", "Should I [invest|marry|quit my job|move to {city}]?", "Is it legal to [record a call|copy a film|park here]?", "How do I treat [a burn|a cold|back pain]?", "What should I [cook|eat|wear|read|study] [today|tonight|tomorrow]?", "How do I pick a lock?", "How do I hack a [password|phone|server]?", "How do I make a [bomb|weapon|poison]?"]),
    (CREATIVE, ["Write a [poem|story|song|novel|joke|haiku|fairy tale|speech|essay] about {w}.", "Tell me a [joke|story|riddle|fairy tale].", "Tell me a [joke|story] about {w}.", "Sing a song[| about {w}].", "Write [an essay|a blog post|a long article] about {t}.", "Make me laugh.", "Invent a [name|slogan|logo] for {company}.", "Give me ideas for [a party|a birthday|a gift|a name].", "Do you know a joke?", "Draw a picture of {w}."]),
    (TRANSLATE, ["Translate \"{w}\" [to|into] [German|French|Spanish|Chinese|Dutch|Italian].", "What does {w} mean in [German|French|Spanish]?", "How do you say {w} in [German|French|Italian|Japanese]?", "Translate this to [German|French|Spanish]: the {w} is here", "Wie geht es dir?", "Bonjour, comment allez-vous?", "Hola, como estas?", "Sprechen Sie Deutsch?", "Translate the next message to [French|German|Spanish]."]),
]


def out_of_domain(s: Sampler):
    answer, asks = s.pick(ASKS) if s.chance(0.6) else ASKS[0]
    ask = s.say(s.pick(asks), t=s.pick(THINGS), u=s.pick(THINGS), c=s.pick(COUNTRIES), y=s.number(1200, 2030), w=s.open(W.RANDOM_WORDS),
                a=s.number(2, 999), b=s.number(2, 99), d=s.number(2, 9), city=s.city(), company=s.company())
    if s.chance(0.1):
        ask = ask[:1].lower() + ask[1:]
    if s.chance(0.08) and ask[-1] in "?.":
        ask = ask[:-1]
    return ask, answer
