"""Drives a POP with the unmodified `openai` package; any surprise is an exception and ends the test.

Usage: openai_client.py URL
"""

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


def errors(client):
    """Errors have OpenAI's classes, codes and parameters."""
    question = [{"role": "user", "content": "Hello"}]
    try:
        client.chat.completions.create(model="no-such-model", messages=question)
        raise SystemExit("openai client: an unknown model was accepted")
    except openai.NotFoundError as error:
        expect(error.code == "model_not_found", f"code {error.code}")
    for parameter, value in (
        ("tools", [{"type": "function", "function": {"name": "f", "parameters": {}}}]),
        ("n", 2),
        ("response_format", {"type": "json_object"}),
        ("logit_bias", {"50": 1}),
    ):
        try:
            client.chat.completions.create(model="auto", messages=question, **{parameter: value})
            raise SystemExit(f"openai client: {parameter} was accepted")
        except openai.BadRequestError as error:
            expect(error.param == parameter, f"{parameter}: param is {error.param}")
    try:
        client.chat.completions.create(model="auto", messages=question, temperature=-1)
        raise SystemExit("openai client: a negative temperature was accepted")
    except openai.BadRequestError as error:
        expect(error.param == "temperature", f"param is {error.param}")


def main():
    client = OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="any", max_retries=0, timeout=120)
    for step in (models, chat, raw_response, streaming, stop_and_limits, errors):
        step(client)
        print(f"{step.__name__}: ok")


if __name__ == "__main__":
    main()
