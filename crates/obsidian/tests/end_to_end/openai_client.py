"""Drives a POP with the unmodified `openai` package; any surprise is an exception and ends the test.

Usage: openai_client.py URL PUBLISHED_PAGE
"""

import inspect
import re
import sys

import openai
from openai import OpenAI


def expect(condition, message):
    """Fails with a message instead of a bare assertion."""
    if not condition:
        raise SystemExit(f"openai client: {message}")


def models(client):
    """The models route lists the routes and the POP's own models."""
    names = [model.id for model in client.models.list()]
    for name in ("auto", "edge", "hub"):
        expect(name in names, f"{name} is not in models.list(): {names}")
    one = client.models.retrieve("edge")
    expect(one.id == "edge" and one.object == "model", f"models.retrieve: {one}")


def chat(client):
    """A whole answer with usage, finish reason and the extension object."""
    answer = client.chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": "What is Obsidian?"}],
        temperature=0,
        max_tokens=64,
    )
    choice = answer.choices[0]
    expect(answer.object == "chat.completion", answer.object)
    expect(choice.message.role == "assistant" and choice.message.content, f"no content: {choice}")
    expect(choice.finish_reason in ("stop", "length"), choice.finish_reason)
    usage = answer.usage
    expect(usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, f"usage does not add up: {usage}")
    expect(usage.completion_tokens_details.accepted_prediction_tokens >= 0, f"no prediction tokens: {usage}")
    expect(answer.model_extra["obsidian"]["route"] in ("edge", "hub"), f"no route: {answer.model_extra}")


def raw_response(client):
    """Headers say where and why."""
    raw = client.chat.completions.with_raw_response.create(
        model="hub", messages=[{"role": "user", "content": "Hello!"}], max_tokens=16, seed=7
    )
    for header in ("x-obsidian-route", "x-obsidian-reason", "x-obsidian-pop", "x-obsidian-request-id"):
        expect(raw.headers.get(header), f"{header} is missing")
    expect(raw.headers["x-obsidian-route"] == "hub", raw.headers["x-obsidian-route"])
    expect(raw.parse().usage.completion_tokens > 0, "nothing was generated")


def streaming(client):
    """Chunks add up to the whole answer; the last one carries usage when asked."""
    request = dict(
        model="hub",
        messages=[{"role": "user", "content": "Write to jane.roe@example.org that the order has shipped."}],
        temperature=0,
        max_tokens=64,
    )
    whole = client.chat.completions.create(**request).choices[0].message.content
    pieces, finish, usage = [], None, None
    for chunk in client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **request):
        if chunk.usage:
            usage = chunk.usage
        for choice in chunk.choices:
            pieces.append(choice.delta.content or "")
            finish = choice.finish_reason or finish
    expect("".join(pieces) == whole, f"streamed {pieces!r}, whole {whole!r}")
    expect(len([piece for piece in pieces if piece]) > 1, "everything came in one chunk")
    expect(finish in ("stop", "length"), f"finish reason {finish}")
    expect(usage is not None and usage.completion_tokens > 0, "no usage in the stream")
    expect("PII_" not in whole, f"a placeholder was not restored: {whole!r}")


def stop_and_limits(client):
    """Stop strings are not part of the answer; max_tokens ends it with `length`."""
    question = [{"role": "user", "content": "What is Obsidian?"}]
    whole = client.chat.completions.create(model="edge", messages=question, temperature=0).choices[0].message.content
    word = whole.split()[2]
    stopped = client.chat.completions.create(model="edge", messages=question, temperature=0, stop=[word])
    text = stopped.choices[0].message.content
    expect(whole.startswith(text) and word not in text, f"stop {word!r}: {text!r} of {whole!r}")
    expect(stopped.choices[0].finish_reason == "stop", stopped.choices[0].finish_reason)
    short = client.chat.completions.create(model="edge", messages=question, temperature=0, max_tokens=3)
    expect(short.choices[0].finish_reason == "length", short.choices[0].finish_reason)
    expect(short.usage.completion_tokens == 3, f"{short.usage.completion_tokens} tokens instead of 3")


def choices_and_log_probabilities(client):
    """Several answers to one prompt, and how likely each token was."""
    question = [{"role": "user", "content": "Write a short greeting."}]
    request = dict(model="edge", messages=question, max_tokens=12, temperature=1.2, seed=3)
    answer = client.chat.completions.create(n=3, **request)
    texts = [choice.message.content for choice in answer.choices]
    expect([choice.index for choice in answer.choices] == [0, 1, 2], f"{answer.choices}")
    expect(len(set(texts)) > 1, f"all choices are the same: {texts}")
    alone = client.chat.completions.create(**request)
    expect(alone.choices[0].message.content == texts[0], "the first choice depends on the others")
    expect(answer.usage.prompt_tokens == alone.usage.prompt_tokens, "the prompt was counted more than once")
    expect(answer.usage.completion_tokens > alone.usage.completion_tokens, "the answers were not added up")
    streamed = {0: "", 1: "", 2: ""}
    for chunk in client.chat.completions.create(n=3, stream=True, **request):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    expect([streamed[index] for index in range(3)] == texts, f"streamed {streamed}, whole {texts}")

    told = client.chat.completions.create(logprobs=True, top_logprobs=2, **request)
    tokens = told.choices[0].logprobs.content
    expect("".join(token.token for token in tokens) == texts[0], f"{tokens}")
    expect(all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens), f"{tokens}")
    bias = client.chat.completions.create(model="edge", messages=question, max_tokens=3, logit_bias={"300": 100})
    expect(bias.usage.completion_tokens == 3, f"{bias.usage}")


def raw_text(client):
    """Text completions, whole and streamed, for one prompt and for two."""
    request = dict(model="edge", max_tokens=8, temperature=0)
    one = client.completions.create(prompt="Obsidian is", **request)
    expect(one.object == "text_completion" and one.choices[0].text, f"{one}")
    expect(one.choices[0].finish_reason in ("stop", "length"), one.choices[0].finish_reason)
    both = client.completions.create(prompt=["Obsidian is", "Write to"], n=2, echo=True, **request)
    expect([choice.index for choice in both.choices] == [0, 1, 2, 3], f"{both.choices}")
    expect(both.choices[0].text == "Obsidian is" + one.choices[0].text, f"{both.choices[0].text!r}")
    expect(both.choices[3].text.startswith("Write to"), f"{both.choices[3].text!r}")
    pieces = [chunk.choices[0].text for chunk in client.completions.create(prompt="Obsidian is", stream=True, **request)]
    expect("".join(pieces) == one.choices[0].text, f"streamed {pieces}, whole {one.choices[0].text!r}")
    hub = client.completions.create(model="hub", prompt="Obsidian is", max_tokens=4)
    expect(hub.model_extra["obsidian"]["route"] == "hub", f"{hub.model_extra}")


def responses(client):
    """The responses endpoint: whole, streamed, and through the client's own stream helper."""
    request = dict(model="edge", instructions="Be brief.", input="What is Obsidian?", temperature=0, max_output_tokens=32)
    whole = client.responses.create(**request)
    expect(whole.status in ("completed", "incomplete") and whole.output_text, f"{whole}")
    expect(whole.instructions == "Be brief." and whole.store is False, f"{whole}")
    expect(whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens, f"{whole.usage}")
    types, text, numbers = [], "", []
    for event in client.responses.create(stream=True, **request):
        types.append(event.type)
        numbers.append(event.sequence_number)
        if event.type == "response.output_text.delta":
            text += event.delta
    expect(types[:4] == ["response.created", "response.in_progress", "response.output_item.added",
                         "response.content_part.added"], f"{types}")
    expect(types[-1] == f"response.{whole.status}", f"{types}")
    expect(numbers == list(range(len(numbers))), f"{numbers}")
    expect(text == whole.output_text, f"streamed {text!r}, whole {whole.output_text!r}")
    with client.responses.stream(**request) as stream:
        for _ in stream:
            pass
        expect(stream.get_final_response().output_text == text, "the stream helper built another text")
    turns = [{"role": "user", "content": "Hello!"}] + [item.model_dump() for item in whole.output]
    turns.append({"role": "user", "content": [{"type": "input_text", "text": "Thank you."}]})
    expect(client.responses.create(model="edge", input=turns, max_output_tokens=8).output_text, "no second answer")


def published_table(client):
    """Every parameter that this client knows is in the published tables."""
    page = open(sys.argv[2], encoding="utf-8").read()
    for title, create in (
        ("### Chat completions", client.chat.completions.create),
        ("### Completions", client.completions.create),
        ("### Responses", client.responses.create),
    ):
        section = page.split(title, 1)[1].split("###", 1)[0]
        listed = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
        # What the client keeps to itself.
        known = set(inspect.signature(create).parameters) - {"extra_headers", "extra_query", "extra_body", "timeout"}
        expect(len(known) > 15 and known <= listed, f"{title}: not in the tables: {sorted(known - listed)}")
        expect(listed - known <= {"obsidian"}, f"{title}: unknown to the client: {sorted(listed - known)}")


def errors(client):
    """Errors have OpenAI's classes, codes and parameters."""
    question = [{"role": "user", "content": "Hello"}]

    def refused(create, param, **request):
        try:
            create(**request)
        except openai.BadRequestError as error:
            expect(error.param == param, f"{param}: param is {error.param}")
            return
        raise SystemExit(f"openai client: {param} was accepted")

    chat = client.chat.completions.create
    try:
        chat(model="no-such-model", messages=question)
        raise SystemExit("openai client: an unknown model was accepted")
    except openai.NotFoundError as error:
        expect(error.code == "model_not_found", f"code {error.code}")
    function = {"type": "function", "function": {"name": "f", "parameters": {}}}
    # No local model takes tools, and this POP has no upstream.
    refused(chat, "tools", model="auto", messages=question, tools=[function])
    refused(chat, "response_format", model="auto", messages=question, response_format={"type": "json_object"})
    refused(chat, "n", model="auto", messages=question, n=9)
    refused(chat, "temperature", model="auto", messages=question, temperature=-1)
    refused(chat, "logprobs", model="hub", messages=question, logprobs=True)
    refused(client.completions.create, "suffix", model="edge", prompt="a", suffix="b")
    refused(client.responses.create, "previous_response_id", model="edge", input="a", previous_response_id="resp_1")
    refused(client.responses.create, "store", model="edge", input="a", store=True)


def main():
    client = OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="any", max_retries=0, timeout=120)
    steps = (models, chat, raw_response, streaming, stop_and_limits, choices_and_log_probabilities, raw_text, responses,
             published_table, errors)
    for step in steps:
        step(client)
        print(f"{step.__name__}: ok")


if __name__ == "__main__":
    main()
