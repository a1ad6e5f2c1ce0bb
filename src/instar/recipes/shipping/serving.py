"""`instar serve`: a trained network that answers over HTTP with the rows of `instar predict`, as JSON."""

import asyncio
import base64
import binascii
import io
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from instar.data.kinds import kind_of
from instar.deploy import Model
from instar.deploy.batching import Batcher
from instar.deploy.calibration import Calibration
from instar.errors import DataError, InstarError, UsageError, first_line
from instar.evaluation import batch_size_on
from instar.naming import import_extra
from instar.recipes.shipping.predictions import Answer, arrays_in, names_of_rows, row_of
from instar.recipes.shipping.row_inputs import table_sent
from instar.structures import form_in_words, is_plain

if TYPE_CHECKING:
    from starlette.responses import Response

WAIT_SECONDS = 0.002
"""How long a batch waits for requests that are being read."""
GRACE_SECONDS = 1.0
"""How long an idle connection stays open once the server was told to stop: its next request may be on the way."""
_BACKLOG = 2048
_NUMPY = b"\x93NUMPY"
_FEW_VALUES = 24  # of an example that is typed into a shell


class Limits(NamedTuple):
    """Of one request."""

    body_bytes: int
    seconds: float


class Shown(NamedTuple):
    """What a row has, as of `row_of`; a request may ask for another `top_k`."""

    top_k: int = 1
    explain: bool = False
    known: Calibration | None = None
    calibrated: bool = False


class _TooLargeError(Exception):
    """A body has more bytes than `Limits` let through."""


def listening(host: str, port: int) -> socket.socket:
    """A socket that other programs can connect to.

    Raises:
        UsageError: the port is in use, or cannot be used here.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        # asyncio does this for sockets that it makes, and not for those it is given. Without it the body of an
        # answer waits until the client has acknowledged its head: 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        known = (error.errno or 0) > 0  # what Python says of it is longer
        words = os.strerror(error.errno or 0) if known else error.strerror
        raise UsageError(f"cannot listen on {host}, port {port}: {words}; choose another with --port") from error


def serve(model: Model, listener: socket.socket, *, shown: Shown, limits: Limits, quiet: bool = False) -> None:
    """Answer until SIGTERM or Ctrl-C; then answer all that was accepted, and return.

    Raises:
        UsageError: the packages are not installed.
    """
    uvicorn: Any = import_extra("uvicorn", "serve")
    stopping = asyncio.Event()
    app = _closing(application(model, shown=shown, limits=limits, stopping=stopping), stopping)

    class Server(uvicorn.Server):  # type: ignore[misc]
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if not quiet:
                sys.stderr.write(greeting(model, listener))

        async def shutdown(self, sockets: Any = None) -> None:
            """Let connections end by themselves first: a request may be on its way on any of them."""
            stopping.set()
            await self._accept_the_rest()
            until = asyncio.get_running_loop().time() + GRACE_SECONDS
            while self.server_state.connections and asyncio.get_running_loop().time() < until:
                await asyncio.sleep(0.01)
            await super().shutdown(sockets)

        async def _accept_the_rest(self) -> None:
            """Stop listening; the system would reset those connections that it has accepted and we have not."""
            accepted = []
            while True:
                try:
                    accepted.append(listener.accept()[0])
                except OSError:
                    break
            for one in self.servers:
                one.close()
            for connection in accepted:
                connection.setblocking(False)
                await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

        def _protocol(self) -> asyncio.Protocol:
            protocol: asyncio.Protocol = self.config.http_protocol_class(
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return protocol

    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", backlog=_BACKLOG, server_header=False
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them anew at its end
        signal.signal(number, lambda *_: None)
    Server(config).run(sockets=[listener])


def greeting(model: Model, listener: socket.socket) -> str:
    """Where it listens, what it is, and a command that asks it."""
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    names = model.class_names
    classes = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return (
        f"{address} answers with {model.source} ({len(names)} classes: {classes})\ntry: {_curl(model, address)}\n"
    )


def _curl(model: Model, address: str) -> str:
    shape = model.input_shape
    if model.rows is not None and kind_of(model.rows.roles) != "picture":
        shown = dict.fromkeys(model.rows.columns, "...")
        return f"curl -d '{json.dumps({'inputs': [shown]}, ensure_ascii=False)}' {address}/predict"
    if takes_pictures(model):
        return f"curl --data-binary @PICTURE.png {address}/predict"
    if is_plain(shape) and int(np.prod(shape)) <= _FEW_VALUES:
        return f"curl -d '{json.dumps({'inputs': [np.zeros(shape).tolist()]})}' {address}/predict"
    return f"curl --data-binary @ARRAYS.npy {address}/predict"


def takes_pictures(model: Model) -> bool:
    """Whether an input is a picture."""
    shape = model.input_shape
    return is_plain(shape) and len(shape) == 3 and shape[0] in (1, 3)


def application(model: Model, *, shown: Shown, limits: Limits, stopping: asyncio.Event) -> Any:
    """The routes: `POST /predict` and `GET /health`.

    Raises:
        UsageError: the packages are not installed.
    """
    import_extra("starlette", "serve")
    import_extra("python_multipart", "serve")
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    batcher = Batcher(model.predict_proba, most=batch_size_on(model.device), wait_seconds=WAIT_SECONDS)

    async def predict(request: Request) -> Response:
        try:
            async with asyncio.timeout(limits.seconds):
                return await answered(request)
        except TimeoutError:
            words = f"no answer within {limits.seconds:g} s; send fewer inputs, or ask when less is asked"
            return _error(HTTPStatus.GATEWAY_TIMEOUT, words)
        except _TooLargeError as error:
            return _error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error))
        except InstarError as error:
            return _error(HTTPStatus.BAD_REQUEST, str(error))

    async def answered(request: Request) -> Response:
        wanted = _wanted(request.query_params, shown)
        with batcher.preparing():
            body = await _body(request, limits.body_bytes)
            sent_as = request.headers.get("content-type", "")
            if sent_as.startswith(("multipart/form-data", _CSV)):
                files = [("body.csv", body)] if sent_as.startswith(_CSV) else await _files(request, body)
                names, examples = await asyncio.to_thread(lambda: _prepared(model, *_sent(files, model)))
            else:
                names, examples = await asyncio.to_thread(lambda: _prepared(model, *_read(body, model)))
        if isinstance(examples, list):
            probs = await batcher.ask(examples)
        else:  # a batch of several tensors
            probs = await batcher.alone(lambda: model.predict_proba(examples))
        named = zip(names or map(str, range(len(probs))), probs, strict=True)
        rows = [row_of(Answer(*one), model.class_names, **wanted._asdict()) for one in named]
        return JSONResponse({"answers": rows})

    async def health(request: Request) -> Response:
        about = {
            "status": "stopping" if stopping.is_set() else "ok",
            "network": str(model.source),
            "class_names": model.class_names,
            "input": form_in_words(model.input_shape),
        }
        status = HTTPStatus.SERVICE_UNAVAILABLE if stopping.is_set() else HTTPStatus.OK
        return JSONResponse(about, status)

    async def other(request: Request, error: Exception) -> Response:
        here = f"{request.method} {request.url.path}"
        if isinstance(error, HTTPException):
            status = HTTPStatus(error.status_code)
            return _error(status, f"{here}: {status.phrase.lower()}; there are POST /predict and GET /health")
        words = f"{here}: {type(error).__name__}: {' '.join(str(error).split())}"
        return _error(HTTPStatus.INTERNAL_SERVER_ERROR, words)

    routes = [Route("/predict", predict, methods=["POST"]), Route("/health", health, methods=["GET"])]
    return Starlette(routes=routes, exception_handlers={HTTPException: other, Exception: other})


def _error(status: HTTPStatus, line: str) -> "Response":
    from starlette.responses import JSONResponse

    return JSONResponse({"error": line}, status)


def _closing(app: Any, stopping: asyncio.Event) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """The application, which closes each connection behind its next answer once the server was told to stop."""

    async def called(scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if stopping.is_set() and message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await app(scope, receive, sending)

    return called


def _wanted(query: Any, shown: Shown) -> Shown:
    text = query.get("top_k")
    if text is None:
        return shown
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UsageError(f"top_k={text}: expected a number of classes, 1 or more")
    return shown._replace(top_k=int(text))


async def _body(request: Any, most: int) -> bytes:
    stated = request.headers.get("content-length", "0")
    body = bytearray()
    if int(stated) <= most:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                break
    if max(int(stated), len(body)) > most:
        words = f"the body is larger than {most / 2**20:g} MiB; send fewer inputs, or start with --max-mib"
        raise _TooLargeError(words)
    return bytes(body)


async def _files(request: Any, body: bytes) -> list[tuple[str, bytes]]:
    """The files of a form."""
    from starlette.exceptions import HTTPException
    from starlette.requests import Request

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        async with Request(request.scope, receive).form() as form:
            sent = [
                (one.filename or "", await one.read()) for _, one in form.multi_items() if not isinstance(one, str)
            ]
    except HTTPException as error:
        raise UsageError(f"not a form that can be read: {error.detail}") from error
    if not sent:
        raise UsageError("the form has no file; send pictures or rows: curl -F file=@PICTURE.png, file=@ROWS.csv")
    return sent


def _sent(files: Sequence[tuple[str, bytes]], model: Model) -> tuple[list[str], list[Any]]:
    """Names and inputs of files: the rows of tables, else their contents."""
    names: list[str] = []
    examples: list[Any] = []
    for name, content in files:
        table = None if model.rows is None else table_sent(name, content, model.rows)
        if table is None:
            names.append(name)
            examples.append(content)
        elif model.rows is not None:
            names += names_of_rows(model, name, table)
            examples += table.select(list(model.rows.columns)).to_pylist()
    return names, examples


def _read(body: bytes, model: Model) -> tuple[list[str] | None, Any]:
    """Names and inputs of a body that is JSON, arrays of numpy or a picture, as its first bytes say."""
    if not body:
        raise UsageError("the body is empty; send a picture, arrays in .npy, or JSON: " + _EXPECTED)
    if body.startswith(_NUMPY):
        return None, list(arrays_in(io.BytesIO(body), "the body", model.input_shape))
    if not body.lstrip().startswith(b"{"):
        return ["body"], [body]
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not JSON: {error}; expected {_EXPECTED}") from error
    inputs = content.get("inputs")
    if set(content) == {"inputs"} and inputs in ([], {}):
        raise UsageError(f"inputs is empty, expected one or more: {_EXPECTED}")
    if set(content) != {"inputs"} or not isinstance(inputs, (list, dict)) or not inputs:
        raise UsageError(f"expected {_EXPECTED}, found {', '.join(content) or 'nothing'}")
    return None, inputs


_CSV = "text/csv"
_EXPECTED = '{"inputs": [...]}, each a picture in base64, an array as lists of numbers, a text or a row'


def _prepared(model: Model, names: list[str] | None, examples: Any) -> tuple[list[str] | None, Any]:
    """Names and examples as the network takes them: here, so that an example is refused by itself."""
    if model.rows is None and not is_plain(model.input_shape):
        return names, examples
    if not isinstance(examples, list):
        raise UsageError(f"expected {_EXPECTED}, found a mapping")
    called = names or [f"input {number}" for number in range(len(examples))]
    one = _row if model.rows is not None else _one
    return names, [one(model, name, example) for name, example in zip(called, examples, strict=True)]


def _row(model: Model, name: str, example: Any) -> Any:
    """An example for a network of rows: a text, the values of its columns in a list, or by name."""
    assert model.rows is not None
    kind, roles = kind_of(model.rows.roles), model.rows.roles
    if kind == "text" and isinstance(example, bytes):
        try:
            return example.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{name}: not text in UTF-8: {error.reason}") from error
    if kind in ("picture", "sound"):
        column = roles.image or roles.audio or ""
        if isinstance(example, dict) and isinstance(example.get(column), str):
            return example | {column: _content(name, example[column])}
        if kind == "sound" and isinstance(example, str | bytes):
            return {column: _content(name, example) if isinstance(example, str) else example}
        return _one(model, name, example)
    if kind == "table" and isinstance(example, bytes | str):
        raise DataError(
            f"{name}: a file or a text, and this network takes rows: {_EXPECTED}; or a table: "
            "curl -F file=@ROWS.csv"
        )
    if not isinstance(example, str | list | dict):
        raise DataError(f"{name}: {example!r} is no row: {_EXPECTED}")
    return example


def _content(name: str, text: str) -> bytes:
    """The bytes of a file in base64: a text is never a path here.

    Raises:
        DataError: it is no base64.
    """
    try:
        return base64.b64decode(text.partition("base64,")[2] or text, validate=True)
    except binascii.Error as error:
        raise DataError(f"{name}: a text that is no base64 of a file: {error}") from error


def _one(model: Model, name: str, example: Any) -> Tensor:
    if isinstance(example, str):
        example = _content(name, example)
    try:
        return model.preprocess(np.array(example) if isinstance(example, list) else example)
    except (InstarError, ValueError, TypeError, RuntimeError) as error:  # lists of unequal lengths, for instance
        raise DataError(f"{name}: {first_line(error)}") from error
