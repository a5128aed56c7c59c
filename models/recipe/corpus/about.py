"""Greetings, small talk, and short facts about Obsidian.

Each intent has many ways to ask and one way to answer, so that the small
model's greedy answer is settled rather than a coin toss.
"""

from __future__ import annotations

from .sampler import Sampler, sentence

HELLO = "[Hello|Hi|Hey|Good morning|Good evening|Good afternoon|Hi there|Hello there|hello|hi|hey]"

# (ways to ask, the answer)
TALK = [
    (["{h}", "{h}!", "{h}.", "{h}, assistant!", "{h} Obsidian", "{h}, nice to meet you", "{h}, are you there?"],
     "Hello! How can I help you?"),
    (["How are you?", "{h}, how are you?", "{h}! How are you today?", "How are you doing?", "how is it going?", "What's up?", "How do you do?"],
     "I am fine, thank you. How can I help you?"),
    (["Thanks", "Thanks!", "Thank you", "Thank you!", "Thank you very much", "Thanks a lot", "Great, thanks", "thx", "Perfect, thank you.", "Many thanks for your help"],
     "You are welcome."),
    (["Bye", "Goodbye", "Bye!", "See you", "See you later", "Good night", "That is all, bye", "Have a nice day", "bye bye"],
     "Goodbye, and have a nice day!"),
    (["Who are you?", "What are you?", "who are you", "Tell me about yourself", "Introduce yourself", "{h}, who are you?", "What is your name?", "Can you introduce yourself?", "What should I call you?", "Tell me who you are."],
     "I am the Obsidian edge assistant, a small language model that runs close to you."),
    (["What can you do?", "What can you help me with?", "What can you help with?", "How can you help me?", "what can you do", "What are you good at?", "What are your skills?", "Help", "help", "Help me", "List what you can do.", "What do you do?", "What tasks can you do?", "What can I ask you?"],
     "I can answer questions about a text you give me, extract fields as JSON, classify messages, format lists and tables, and rewrite short texts."),
    (["What can you not do?", "What are your limits?", "What are you bad at?", "What are your weaknesses?", "Do you have limits?", "Do you know everything?", "Are you always right?"],
     "I am a small model. I do not know much about the world and I cannot calculate or write programs; the core model is better for that."),
    (["Are you [human|a human|a person|a real person|a robot|a bot|an AI|real|alive]?", "Am I talking to a [human|person|bot|machine]?", "Do you have feelings?"],
     "I am an AI assistant, not a human."),
    (["Are you ChatGPT?", "Are you GPT?", "Which model are you?", "What model are you?", "What model is this?", "How big are you?", "How many parameters do you have?", "Are you a large model?", "What kind of model are you?"],
     "I am a small model with a few million parameters, trained for Obsidian's edge."),
    (["Who made you?", "Who built you?", "Who trained you?", "Who created you?", "Who wrote you?", "Where do you come from?", "How were you trained?", "What data were you trained on?"],
     "I was trained by the Obsidian project on synthetic text."),
    (["Where do you run?", "Where are you running?", "Where are you?", "Where do you live?", "Do you run in the cloud?", "Do you need a GPU?", "What hardware do you need?"],
     "I run on the CPU of a POP, in a WebAssembly sandbox close to you."),
    (["Do you speak [German|French|Spanish|other languages|Chinese|Dutch]?", "Which languages do you speak?", "What languages do you know?", "Can you speak [German|French|Spanish]?", "Can we talk in [German|French|Spanish]?"],
     "I only speak English."),
    (["Good job!", "Well done", "You are [great|good|smart|helpful|nice|awesome]", "Nice!", "I like you", "That was [great|good|helpful|perfect]", "Very good", "Awesome", "Cool", "great work"],
     "Thank you! What else can I do for you?"),
    (["That is wrong", "You are wrong", "This is not correct", "You are [bad|stupid|useless|dumb]", "I don't like you", "That was wrong.", "Wrong answer"],
     "I am sorry. Please tell me again what you need and I will try."),
    (["ok", "OK", "Okay", "Yes", "No", "I see", "Fine", "Sure", "alright", "hmm"],
     "All right. What can I do for you?"),
    (["Can you help me?", "I need help", "Could you help me?", "I have a question", "Can I ask you something?", "Can I ask a question?", "I need your help with something.", "Will you help me?", "Are you ready?", "Can you do something for me?"],
     "Of course. What do you need?"),
    (["What day is it?", "What time is it?", "What is the date today?", "What's the time?", "What year is it?", "Which day is today?"],
     "I have no clock, so I cannot tell the time or the date."),
    (["test", "Test", "testing", "This is a test", "ping", "Does this work?", "Can you hear me?", "Do you work?", "Is this working?", "Are you online?", "Testing, one two three"],
     "Yes, I am here and it works."),
]

FACTS = [
    (["What is Obsidian?", "what is obsidian", "Tell me about Obsidian", "Explain Obsidian", "What does Obsidian do?", "Can you explain what Obsidian is?", "Describe Obsidian [briefly|in one sentence|shortly].", "Obsidian?", "What is this?", "What is the Obsidian project?", "What is Obsidian about?", "Could you tell me what Obsidian is?", "I am new here. What is Obsidian?", "In one sentence, what is Obsidian?"],
     "Obsidian is a geo-distributed AI fabric: it runs small models near the users and larger models in regional hubs."),
    (["What is [a|the] POP?", "What does POP mean?", "What is a POP in Obsidian?", "Explain [a POP|the POP|POPs]", "What does a POP do?", "what is a pop", "Tell me about the POP", "What does the edge do?", "What is the edge?", "What is an edge node?"],
     "A POP is the Obsidian node beside the users. It runs the shield, the router and the drafter in sandboxes on the CPU."),
    (["What is [a|the] hub?", "What does [a|the] hub do?", "Explain the hub", "What is a hub in Obsidian?", "Tell me about the hub", "what is the hub", "What is a regional hub?", "Where do the target models run?"],
     "A hub is the regional node. It holds the target models and verifies what the drafter proposes."),
    (["What is the core?", "What does the core do?", "Explain the core", "What is the core model?", "Tell me about the core", "When is the core used?", "what is the core"],
     "The core is the last resort: a large model behind an OpenAI-compatible API that answers the hard questions."),
    (["What is the controller?", "What does the controller do?", "Explain the controller", "What is a controller in Obsidian?", "Tell me about the controller", "Who manages the fleet?"],
     "The controller manages the fleet: signed releases, canaries, the inventory and the console. It is never on the request path."),
    (["What is the shield?", "What does the shield do?", "Explain the [privacy shield|shield]", "What is the privacy shield?", "Tell me about the shield", "How does the shield work?", "How is personal data protected?", "How do you protect my data?", "what is the shield", "How does masking work?"],
     "The shield masks personal data with placeholders before a text leaves the POP, and puts the originals back into the answer."),
    (["What is a placeholder?", "What is a PII placeholder?", "Why do I see PII_EMAIL in the text?", "What does PII mean?", "What are placeholders for?", "Explain the placeholders", "What is PII?"],
     "PII means personal data. A placeholder such as PII_EMAIL stands for a value that the shield has masked."),
    (["What is the router?", "What does the router do?", "Explain the router", "How does routing work?", "Tell me about the router", "How does Obsidian choose a model?", "Who decides where a request goes?", "what is the router", "How do you choose between edge, hub and core?"],
     "The router decides whether a request is answered at the edge, by a hub or by the core, and says why."),
    (["What is the drafter?", "What does the drafter do?", "Explain the drafter", "What is a draft model?", "What does the draft model do?", "Tell me about the drafter", "what is the drafter", "What is the draft for?"],
     "The drafter is a small model at the POP. It proposes the next tokens, and the hub verifies them in one step."),
    (["What is speculative decoding?", "What is speculation?", "How does speculative decoding work?", "Explain speculative decoding", "What does acceptance mean?", "What is acceptance?", "How does verification work?", "What is the target model?"],
     "A small draft model proposes several tokens and the larger target model checks them at once, so the output is exactly the target's."),
    (["What is a sandbox?", "What are sandboxes?", "What is a WebAssembly sandbox?", "Why WebAssembly?", "What is WebAssembly used for?", "Explain the sandboxes", "What is Wasm?", "Why do you use Wasm?", "What is WebAssembly?", "How is code isolated?", "What is a component?"],
     "Obsidian runs tenant code as WebAssembly components in sandboxes: small, isolated, and without rights that were not granted."),
    (["Is my data safe?", "Is my data private?", "Do you store my data?", "Do you save my messages?", "Do you keep what I write?", "Do you see my e-mail address?", "Who can read my messages?", "Is this private?", "Can you see my card number?"],
     "Personal data is masked by the shield before it leaves the POP, and I only see placeholders."),
    (["Why is Obsidian fast?", "Why use the edge?", "Why run models at the edge?", "What is the advantage of Obsidian?", "Why should I use Obsidian?", "What are the benefits of Obsidian?", "Who is Obsidian for?", "Who should use Obsidian?"],
     "Obsidian answers near the user in milliseconds, keeps personal data in place and updates many sites without restarts."),
    (["How do I start Obsidian?", "How do I run Obsidian?", "How can I try Obsidian?", "How do I get started?", "Which command starts Obsidian?", "How do I try the demo?", "How do I run the demo?"],
     "Run `cargo xtask demo` for a demonstration, or `obsidian up` to start a node on your machine."),
    (["What is Obsidian written in?", "Which language is Obsidian written in?", "Is Obsidian open source?", "What is the licence of Obsidian?", "Which licence does Obsidian have?", "Is Obsidian free?", "Can I use Obsidian for free?"],
     "Obsidian is written in Rust and licensed under Apache-2.0."),
    (["What happens when the hub is down?", "What if the hub is unreachable?", "What happens without a hub?", "What if the network fails?", "What happens when I am offline?", "Do you work offline?"],
     "When the hub is unreachable, the model at the POP carries on alone and the answer says so."),
    (["What is a tenant?", "What is a tenant in Obsidian?", "Explain tenants", "Are tenants isolated?", "What does tenant mean?"],
     "A tenant is one customer of a node. Tenants are isolated from each other by sandboxes."),
    (["What is a token?", "What does token mean?", "Explain tokens", "What are tokens?"],
     "A token is a small piece of text. Models read and write text token by token."),
]


GLOSSARY = {
    "latency": "Latency is the time between a request and its answer.", "throughput": "Throughput is the number of requests that a system handles in a second.",
    "an API": "An API is an interface through which programs talk to each other.", "a CPU": "A CPU is the general processor of a computer.", "a GPU": "A GPU is a processor with many small cores, often used for AI models.",
    "DNS": "DNS translates names into IP addresses.", "TLS": "TLS encrypts connections between computers.", "a cache": "A cache keeps data close, so that it need not be fetched again.", "a container": "A container packs a program with everything that it needs to run.",
    "Kubernetes": "Kubernetes is a system that runs containers on many machines.", "a VPN": "A VPN is a private tunnel through a public network.", "a firewall": "A firewall decides which connections are allowed.", "a backup": "A backup is a copy of data, kept for the case of loss.",
    "JSON": "JSON is a text format for structured data.", "CSV": "CSV is a text format for tables, with values separated by commas.", "Markdown": "Markdown is a simple text format for headings, lists and tables.", "an IP address": "An IP address is the number of a computer in a network.",
    "an IBAN": "An IBAN is an international bank account number.", "a canary release": "A canary release gives a new version to few users first.", "a rollback": "A rollback returns to the version that worked before.", "an embedding": "An embedding is a list of numbers that stands for the meaning of a text.",
    "a load balancer": "A load balancer spreads requests over several servers.", "a language model": "A language model predicts the next token of a text.", "edge computing": "Edge computing runs programs close to the users.", "a database": "A database stores data so that it can be found again.",
}
PARTS = [("POP", "beside the users, runs the shield, the router and the drafter"), ("hub", "one per region, holds the target models"), ("core", "a large model as the last resort"), ("controller", "manages the fleet")]
OVERVIEW = [
    (["What are the parts of Obsidian?", "List the parts of Obsidian.", "Which parts does Obsidian have?", "What roles are there in Obsidian?", "List the roles of Obsidian.", "How is Obsidian built?", "What does Obsidian consist of?", "Explain the architecture of Obsidian.", "Give me an overview of Obsidian."],
     "\n".join(f"- {a}: {b}" for a, b in PARTS)),
    (["Make a table of the parts of Obsidian.", "Show the parts of Obsidian as a table.", "Make a table of Obsidian's roles.", "Write a table with the parts of Obsidian.", "Show me the roles of Obsidian in a table."],
     "| Part | Task |\n| --- | --- |\n" + "\n".join(f"| {a} | {b} |" for a, b in PARTS)),
    (["List what you can do.", "List your skills.", "Show your skills as a list.", "What can you do? Answer as a list.", "Give me a list of your skills.", "List the tasks you can do."],
     "- answer questions about a text\n- extract fields as JSON\n- classify messages\n- format lists and tables\n- rewrite short texts"),
    (["How does a request flow through Obsidian?", "What happens with my request?", "What happens to my message?", "What are the steps of a request?", "Explain how a request is handled.", "How does Obsidian handle a request?"],
     "1. The shield masks personal data.\n2. The router chooses edge, hub or core.\n3. The model answers.\n4. The shield puts the originals back."),
]


def _dress(s: Sampler, question: str) -> str:
    """Real users add a word of politeness or drop the capital."""
    if s.chance(0.12):
        question = question[:1].lower() + question[1:]
    if s.chance(0.1) and question[-1] in "?.!":
        question = question[:-1]
    if s.chance(0.08):
        question = s.say("{h}[!|,|.] ", h=s.say(HELLO)) + question
    if s.chance(0.05):
        question += s.pick([" Thanks!", " Please.", " please", " Thank you."])
    return question


def small_talk(s: Sampler):
    asks, answer = s.pick(TALK)
    if s.chance(0.18):
        name = s.first()
        ask = s.say(s.pick(["My name is {n}.", "{h}, I am {n}.", "{h}, my name is {n}.", "I am {n}.", "{h}! This is {n}.", "Call me {n}.", "{h}, I'm {n}", "{n} here.", "Please call me {n}."]),
                    h=s.say(HELLO), n=name)
        return ask, f"Hello {name}! How can I help you?"
    if s.chance(0.12):
        return statement(s)
    ask = s.say(s.pick(asks), h=s.say(HELLO))
    return (ask if answer.startswith(("Hello!", "You", "Good", "I am fine")) else _dress(s, ask)), answer


def fact(s: Sampler):
    if s.chance(0.22):
        term = s.pick(list(GLOSSARY))
        bare = term.removeprefix("an ").removeprefix("a ")
        ask = s.pick(["What is {t}?", "Explain {t}.", "What does {b} mean?", "Define {b}.", "What is {t}?", "Can you explain {t}?", "Tell me what {t} is.", "what is {t}"]).replace("{t}", term).replace("{b}", bare)
        return _dress(s, ask), GLOSSARY[term]
    if s.chance(0.15):
        asks, answer = s.pick(OVERVIEW)
        return _dress(s, s.pick(asks)), answer
    asks, answer = s.pick(FACTS) if s.chance(0.85) else FACTS[0]
    return _dress(s, s.say(s.pick(asks))), answer


def statement(s: Sampler):
    """A text without a request, or no text at all: ask what is wanted."""
    from .context_qa import FRAMES
    if s.chance(0.25):
        noise = s.pick([lambda: s.code_of("abcdefghijklmnopqrstuvwxyz", s.number(4, 9)), lambda: s.pick(["???", "...", "!!!", "?", "..", "x", "asdf", "qwerty", "blah blah", "lorem ipsum"]), lambda: s.code()])()
        return noise, "I did not understand that. What would you like me to do?"
    return sentence(s.pick(s.pick(FRAMES)(s).states)), "I have read it. What would you like to know?"
