"""Drives a POP with an upstream by tools: the unmodified `openai` package, then LangChain; any surprise ends the test.

Usage: openai_tools.py URL
"""

import json
import sys

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import OpenAI

EMAIL = "olga.brandt@example.com"
# Spelled so that putting it into JSON unescaped would break the JSON.
PASSWORD = 'Tr0ub4dor"&3\\x'
QUESTION = f"Log in as {EMAIL} with password='{PASSWORD}'"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "log_in",
            "strict": True,
            "description": f"Logs a user in; ask {EMAIL} if it fails.",
            "parameters": {
                "type": "object",
                "properties": {"user": {"type": "string"}, "word": {"type": "string", "default": EMAIL}},
                "required": ["user", "word"],
            },
        },
    }
]


def expect(condition, message):
    """Fails with a message instead of a bare assertion."""
    if not condition:
        raise SystemExit(f"tools: {message}")


def expect_arguments(text):
    """The originals are back, as JSON spells them."""
    expect(json.loads(text) == {"user": EMAIL, "word": PASSWORD}, f"arguments {text!r}")


def chat(client):
    """OpenAI's own example: call, result, answer."""
    messages = [{"role": "user", "content": QUESTION}]
    answer = client.chat.completions.create(model="core", messages=messages, tools=TOOLS)
    choice = answer.choices[0]
    expect(choice.finish_reason == "tool_calls", choice.finish_reason)
    (call,) = choice.message.tool_calls
    expect(call.type == "function" and call.function.name == "log_in", f"{call}")
    expect_arguments(call.function.arguments)
    messages.append(choice.message)
    messages.append({"role": "tool", "tool_call_id": call.id, "content": f"{EMAIL} is in."})
    told = client.chat.completions.create(model="core", messages=messages, tools=TOOLS)
    expect(told.choices[0].message.content == f"The tool says: {EMAIL} is in.", f"{told.choices[0].message}")
    expect(told.model_extra["obsidian"]["route"] == "core", f"{told.model_extra}")


def streaming(client):
    """Arguments in pieces, by chunk and by the client's own helper."""
    request = dict(model="auto", messages=[{"role": "user", "content": QUESTION}], tools=TOOLS, tool_choice="required")
    arguments, names, finish = "", [], None
    for chunk in client.chat.completions.create(stream=True, **request):
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            for call in choice.delta.tool_calls or []:
                names += [call.function.name] if call.function.name else []
                arguments += call.function.arguments or ""
    expect((names, finish) == (["log_in"], "tool_calls"), f"{names} {finish}")
    expect_arguments(arguments)
    with client.chat.completions.stream(**request) as stream:
        for _ in stream:
            pass
        (call,) = stream.get_final_completion().choices[0].message.tool_calls
        expect_arguments(call.function.arguments)


def responses(client):
    """The same by the responses endpoint."""
    function = TOOLS[0]["function"]
    tools = [{"type": "function", "name": "log_in", "parameters": function["parameters"], "strict": False}]
    turns = [{"role": "user", "content": QUESTION}]
    first = client.responses.create(model="core", input=turns, tools=tools)
    (call,) = first.output
    expect((call.type, call.name) == ("function_call", "log_in"), f"{first.output}")
    expect_arguments(call.arguments)
    types, pieces = [], ""
    for event in client.responses.create(model="core", input=turns, tools=tools, stream=True):
        types.append(event.type)
        if event.type == "response.function_call_arguments.delta":
            pieces += event.delta
        if event.type == "response.function_call_arguments.done":
            expect_arguments(event.arguments)
    expect_arguments(pieces)
    expect(types[-1] == "response.completed", f"{types}")
    turns += first.output
    turns.append({"type": "function_call_output", "call_id": call.call_id, "output": f"{EMAIL} is in."})
    told = client.responses.create(model="core", input=turns, tools=tools)
    expect(told.output_text == f"The tool says: {EMAIL} is in.", f"{told.output_text!r}")


@tool
def log_in(user: str, word: str) -> str:
    """Logs a user in."""
    return f"{user} is in."


def langchain(_):
    """A framework on top of the client: invoke, stream, bound tools, results."""
    model = ChatOpenAI(model="auto", base_url=f"{sys.argv[1]}/v1", api_key="any", max_retries=0, timeout=120)
    # The shipped models answer this one; nothing of it needs an upstream.
    greeting = model.bind(extra_body={"obsidian": {"residency": "region"}})
    expect(greeting.invoke("Hello! Who are you?").content, "no answer")
    expect("".join(chunk.content for chunk in greeting.stream("Hello! Who are you?")), "nothing streamed")
    bound = model.bind_tools([log_in])
    called = bound.invoke(QUESTION)
    (call,) = called.tool_calls
    expect(call["args"] == {"user": EMAIL, "word": PASSWORD}, f"{call}")
    streamed = None
    for chunk in bound.stream(QUESTION):
        streamed = chunk if streamed is None else streamed + chunk
    expect(streamed.tool_calls[0]["args"] == call["args"], f"{streamed}")
    result = log_in.invoke(call)
    told = bound.invoke([("user", QUESTION), called, result])
    expect(told.content == f"The tool says: {EMAIL} is in.", f"{told.content!r}")


def main():
    client = OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="any", max_retries=0, timeout=120)
    for step in (chat, streaming, responses, langchain):
        step(client)
        print(f"{step.__name__}: ok")


if __name__ == "__main__":
    main()
