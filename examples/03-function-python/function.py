"""Greets whoever asks, and counts the visits of each name in the store `visits`."""

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports import atomics, wasi_config_store, wasi_keyvalue_store
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        path = (request.path_with_query() or "/").split("?")[0]
        name = path.rsplit("/", 1)[-1] or "world"
        greeting = wasi_config_store.get("greeting") or "hello"
        visits = atomics.increment(wasi_keyvalue_store.open("visits"), name, 1)
        answer(response_out, f"{greeting} {name}, from Python, visit {visits}\n")


def answer(response_out: ResponseOutparam, text: str) -> None:
    response = OutgoingResponse(Fields.from_list([("content-type", b"text/plain")]))
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    with body.write() as stream:
        stream.blocking_write_and_flush(text.encode())
    OutgoingBody.finish(body, None)
