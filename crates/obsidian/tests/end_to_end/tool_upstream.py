"""A stand-in for an upstream that calls tools: the shipped models do not know them, and real ones that do are paid or large.

Speaks chat completions with tool calls, whole and streamed, on loopback, and always answers the same way: asked with
tools it calls the first one, with every value that it is shown; told results it repeats them. Each body it receives is
appended to RECORD, one line each, so that the test sees what left the POP.

Usage: tool_upstream.py RECORD (prints its port)
"""

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PLACEHOLDER = re.compile(r"PII_[A-Z]+_[0-9A-Z]+")
# Small enough that every placeholder is split over pieces.
PIECE = 5


def decide(request):
    """(text, calls) of the one answer."""
    messages = request["messages"]
    results = [message for message in messages if message["role"] == "tool"]
    if results:
        return "The tool says: " + " and ".join(message["content"] for message in results), []
    if not request.get("tools"):
        return "Hello from the stand-in.", []
    function = request["tools"][0]["function"]
    values = PLACEHOLDER.findall(messages[-1]["content"])
    names = list(function["parameters"].get("properties", {}))
    arguments = {name: value for name, value in zip(names, values)}
    return "", [{"name": function["name"], "arguments": json.dumps(arguments)}]


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        with open(sys.argv[1], "ab") as record:
            record.write(body + b"\n")
        request = json.loads(body)
        text, calls = decide(request)
        answer = {"id": "chatcmpl-stand-in", "created": 1, "model": request["model"]}
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        finish = "tool_calls" if calls else "stop"
        if not request.get("stream"):
            listed = [{"id": f"call_{i}", "type": "function", "function": call} for i, call in enumerate(calls)]
            message = {"role": "assistant", "content": text or None, "tool_calls": listed or None}
            choice = {"index": 0, "message": message, "finish_reason": finish}
            self.send(json.dumps({**answer, "object": "chat.completion", "choices": [choice], "usage": usage}).encode())
            return
        deltas = [{"role": "assistant", "content": ""}]
        deltas += [{"content": text[i : i + PIECE]} for i in range(0, len(text), PIECE)]
        for i, call in enumerate(calls):
            function = {"name": call["name"], "arguments": ""}
            deltas.append({"tool_calls": [{"index": i, "id": f"call_{i}", "type": "function", "function": function}]})
            for at in range(0, len(call["arguments"]), PIECE):
                piece = {"index": i, "function": {"arguments": call["arguments"][at : at + PIECE]}}
                deltas.append({"tool_calls": [piece]})
        choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        choices.append({"index": 0, "delta": {}, "finish_reason": finish})
        chunks = [{**answer, "object": "chat.completion.chunk", "choices": [choice]} for choice in choices]
        chunks.append({**answer, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        self.send(events.encode(), "text/event-stream")

    def send(self, body, kind="application/json"):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
print(server.server_address[1], flush=True)
server.serve_forever()
