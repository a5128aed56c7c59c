"""Writes the renderings that the tests expect, with Python's Jinja set up as Hugging Face's renderer does it.

    pip install jinja2 && python reference.py [DIRECTORY OF PUBLISHED TEMPLATES]

Without a directory only `expected.json` (our own templates here) is written, with one also `published.json`.
"""
import copy, datetime, json, pathlib, sys
import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent
NOW = 1735689599
FORMS = [(null, objects) for objects in (True, False) for null in (True, False)]


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def compile_template(source):
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).strftime(format)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment.from_string(source)


def render(template, conversation):
    for null_content, objects in FORMS:
        messages = copy.deepcopy(conversation["messages"])
        for message in messages:
            if message.get("tool_calls"):
                if message["content"] == "" and null_content:
                    message["content"] = None
                for call in message["tool_calls"]:
                    function = call["function"]
                    function["arguments"] = json.loads(function["arguments"]) if objects else function["arguments"]
        try:
            return template.render(
                messages=messages, tools=conversation.get("tools"), documents=None,
                add_generation_prompt=conversation.get("add_generation_prompt", True),
                bos_token="<s>", eos_token="</s>",
            )
        except Exception:
            pass
    return None


def write(name, templates):
    conversations = json.loads((HERE / "conversations.json").read_text())
    expected = {}
    for path in sorted(templates):
        template = compile_template(path.read_text())
        expected[path.name] = {c["name"]: render(template, c) for c in conversations}
    (HERE / name).write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")
    rendered = [text for texts in expected.values() for text in texts.values()]
    print(f"{name}: {len(rendered)} cases, {rendered.count(None)} of them refused")


write("expected.json", HERE.glob("*.jinja"))
if len(sys.argv) > 1:
    write("published.json", pathlib.Path(sys.argv[1]).glob("*.jinja"))
