"""A fake API server: what it says on the wire is written by the test, byte for byte.

::

    with Wire() as wire:                                   # Wire(tls=True): https, with its own CA in wire.ca
        wire.on("GET", "/api/v1/namespaces/default/pods/a", gives(pod), fails(503))
        wire.on("WATCH", "/api/v1/namespaces/default/pods", lines(event, b"\\n", then=RESET), silence)
        wire.on("SOCKET", "/api/v1/namespaces/default/pods/*/exec", exec_handler)
        cluster = connect(...wire.kubeconfig(tmp_path / "config")...)
        ...
        assert wire.seen("WATCH")[1].query["resourceVersion"] == "7"

A route has one handler a request; the last one stays. `WATCH` is a GET with `watch=true`, `SOCKET` one that asks to be
a websocket; `*` in a path is any text. Requests without a route get a 404 Status. Later routes win.

A mistake of a handler fails the test at the end of the `with`. A handler gets `(request, answer)` and writes: `answer.json(...)`, or `answer.begin()`, `answer.chunk(...)` and one end:
`answer.end()` (a clean one), `answer.cut()` (the connection closes in the middle), `answer.reset()` (RST),
`answer.hold()` (open, and nothing more, until the wire is closed: half-open).
"""

import base64
import contextlib
import fnmatch
import hashlib
import http.server
import json
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
import time
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

END, CUT, RESET, HOLD = "end", "cut", "reset", "hold"
_ACCEPT = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Request(NamedTuple):
    """What arrived. `pairs` keeps what stands several times in the query (`command=`)."""

    method: str
    path: str
    query: dict
    pairs: list
    headers: object
    body: bytes
    at: float

    def json(self):
        return json.loads(self.body)


class Answer:
    """The other end of one request."""

    def __init__(self, handler, wire):
        self._handler = handler
        self._wire = wire
        self.stopping = wire.stopping

    def json(self, body, status=200, headers=None):
        self.raw(json.dumps(body).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def raw(self, body, status=200, headers=None):
        self._head(status, {"Content-Length": str(len(body)), **(headers or {})})
        self._handler.wfile.write(body)

    def status(self, code, message="", reason="", headers=None, details=None):
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
        self.json({**body, "message": message, "reason": reason, "details": details or {}}, code, headers)

    def begin(self, status=200, headers=None):
        self._head(status, {"Transfer-Encoding": "chunked", **(headers or {})})

    def chunk(self, data):
        if isinstance(data, dict):
            data = json.dumps(data).encode() + b"\n"
        self.bytes(b"%x\r\n%b\r\n" % (len(data), data))

    def bytes(self, data):
        """Write as it is: half a chunk, say."""
        self._handler.wfile.write(data)
        self._handler.wfile.flush()

    def end(self):
        self.bytes(b"0\r\n\r\n")

    def cut(self):
        self._handler.close_connection = True

    def reset(self):
        self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._wire.drop(self._handler.connection)
        self._handler.close_connection = True

    def hold(self):
        self._wire.stopping.wait()
        self._handler.close_connection = True

    def finish(self, how):
        {END: self.end, CUT: self.cut, RESET: self.reset, HOLD: self.hold}[how]()

    def upgrade(self, subprotocol="", headers=None):
        """Answer the handshake and return the Socket."""
        key = self._handler.headers["Sec-WebSocket-Key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + _ACCEPT.encode()).digest()).decode()  # noqa: S324 - RFC 6455
        chosen = {"Sec-WebSocket-Protocol": subprotocol} if subprotocol else {}
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept}
        self._head(101, {**upgrade, **chosen, **(headers or {})})
        self._handler.close_connection = True
        return Socket(self._handler.rfile, self._handler.wfile)

    def _head(self, status, headers):
        self._handler.send_response(status)
        for name, value in headers.items():
            self._handler.send_header(name, value)
        self._handler.end_headers()
        self._handler.wfile.flush()


class Socket:
    """The server's end of a websocket whose messages begin with the number of a channel."""

    def __init__(self, read, write):
        self._read = read
        self._write = write

    def send(self, channel, data=b"", opcode=2):
        self.frame(bytes([channel]) + data, opcode)

    def frame(self, body, opcode=2, final=True):
        size = len(body)
        if size < 126:
            length = bytes([size])
        else:
            length = struct.pack(">BH", 126, size) if size < 65536 else struct.pack(">BQ", 127, size)
        self._write.write(bytes([opcode | (0x80 if final else 0)]) + length + body)
        self._write.flush()

    def receive(self):
        """Return (channel, bytes) of the next message; None at its end. Pings are answered."""
        while True:
            head = self._read.read(2)
            if len(head) < 2:
                return None
            opcode, size = head[0] & 15, head[1] & 127
            if size == 126:
                size = struct.unpack(">H", self._read.read(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", self._read.read(8))[0]
            mask = self._read.read(4)
            body = self._read.read(size)
            repeated = (mask * (size // 4 + 1))[:size]
            body = (int.from_bytes(body, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")
            if opcode == 8:
                return None
            if opcode == 9:
                self.frame(body, 10)
            elif opcode in (0, 1, 2):
                return body[0], body[1:]

    def close(self, code=1000):
        self.frame(struct.pack(">H", code), 8)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, address, handler, errors):
        self.errors = errors
        super().__init__(address, handler)

    def handle_error(self, request, client_address):
        """A client that goes away is what the tests are about; anything else is a mistake of a handler."""
        if not isinstance(sys.exception(), OSError):
            self.errors.append(sys.exception())


class Wire:
    """The server. `requests` is everything that arrived, in order."""

    def __init__(self, tls=None, port=0):
        self.requests = []
        self.errors = []
        self.connections = 0
        self.stopping = threading.Event()
        self._routes = []
        self._lock = threading.Lock()
        self._open = set()
        self._server = _Server(("127.0.0.1", port), self._handler(), self.errors)
        self.port = self._server.server_address[1]
        self.ca = tls.ca if tls else None
        self._context = tls.context() if tls else None
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.close()
        assert kind or not self.errors, self.errors

    def on(self, method, path, *handlers):
        with self._lock:
            self._routes.insert(0, (method, path, list(handlers)))

    def seen(self, method=None, path="*"):
        with self._lock:
            return [r for r in self.requests if method in (None, r.method) and fnmatch.fnmatchcase(r.path, path)]

    def await_seen(self, method, path="*", count=1, seconds=10):
        deadline = time.monotonic() + seconds
        while len(found := self.seen(method, path)) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} {method} {path}"
            time.sleep(0.005)
        return found

    def kubeconfig(self, file, *, user=None, namespace="default", context="wire", cluster=None):
        """Write a kubeconfig of one context; return its path. `user` and `cluster` are its entries, as in the file."""
        data = {"server": self.url, **({"certificate-authority": str(self.ca)} if self.ca else {}), **(cluster or {})}
        body = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": context,
            "contexts": [{"name": context, "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
            "clusters": [{"name": "c", "cluster": data}],
            "users": [{"name": "u", "user": {"token": "t0ken"} if user is None else user}],
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(body))
        return file

    def drop(self, connection):
        """Close the socket itself, below all that is buffered."""
        self._open.discard(connection)
        connection.close() if connection.fileno() < 0 else socket.close(connection.detach())

    def drop_all(self):
        """Close every open connection, as an API server that is killed does."""
        for connection in list(self._open):
            _shut(connection)

    def close(self):
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self.drop_all()
        self._thread.join(5)

    def _find(self, method, path):
        with self._lock:
            for wanted, pattern, handlers in self._routes:
                if wanted == method and fnmatch.fnmatchcase(path, pattern):
                    return handlers.pop(0) if len(handlers) > 1 else handlers[0]
        return lambda request, answer: answer.status(404, f"nothing at {request.method} {request.path}", "NotFound")

    def _handler(wire):  # noqa: N805 - the handler has a self of its own
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                if wire._context:
                    self.request = wire._context.wrap_socket(self.request, server_side=True)
                wire._open.add(self.request)
                wire.connections += 1
                super().setup()

            def finish(self):
                wire._open.discard(self.request)
                super().finish()
                if wire._context:
                    self.request.close()  # the server closes only the socket that it accepted

            def answer(self):
                parts = urlsplit(self.path)
                pairs = parse_qsl(parts.query, keep_blank_values=True)
                query = dict(pairs)
                method = "WATCH" if query.get("watch") in ("true", "1") else self.command
                method = "SOCKET" if self.headers.get("Upgrade", "").lower() == "websocket" else method
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = Request(method, parts.path, query, pairs, self.headers, body, time.monotonic())
                with wire._lock:
                    wire.requests.append(request)
                wire._find(method, parts.path)(request, Answer(self, wire))

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer  # noqa: N815 - http.server's names

            def log_message(self, *_):
                pass

        return Handler


class Certificate:
    """A certificate for 127.0.0.1 and localhost that is its own CA, made by the openssl program."""

    def __init__(self, folder):
        self.ca = folder / "ca.crt"
        self.key = folder / "ca.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "30", "-subj", "/CN=wire/O=testers", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
             "-keyout", self.key, "-out", self.ca],
            check=True, capture_output=True,
        )  # fmt: skip

    def context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca, self.key)
        context.verify_mode = ssl.CERT_OPTIONAL  # a client may show the same certificate
        context.load_verify_locations(self.ca)
        return context


class Tunnel:
    """A TCP proxy that can be cut; to one place, or as an HTTP proxy (CONNECT) where `to` is None.

    `accepting` False refuses new connections; `freeze()` keeps the open ones and passes nothing on (half-open);
    `cut()` closes them.
    """

    def __init__(self, to=None):
        self.to = to
        self.targets = []
        self._pairs = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self):
        self._flowing.clear()

    def thaw(self):
        self._flowing.set()

    def cut(self):
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                _shut(end)

    def close(self):
        self._closed = True
        self.thaw()
        _shut(self._listener)
        self._listener.close()
        self.cut()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near):
        host, port = self.to or ("", 0)
        if not self.to:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (more := near.recv(4096)):
                    near.close()
                    return
                head += more
            _, target, _ = head.decode().split(" ", 2)
            host, _, port = target.rpartition(":")
        self.targets.append(f"{host}:{port}")
        try:
            far = socket.create_connection((host.strip("[]"), int(port)))
        except OSError:
            near.close()
            return
        if not self.to:
            near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self._pairs.append((near, far))
        back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
        back.start()
        self._pump(near, far)
        back.join()
        near.close()
        far.close()

    def _pump(self, one, other):
        try:
            while data := one.recv(65536):
                self._flowing.wait()
                other.sendall(data)
        except OSError:
            pass
        _shut(one)
        _shut(other)


def _shut(end):
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def gives(body, status=200, **headers):
    """Answer with an object."""
    named = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    return lambda _, answer: answer.json(body, status, named)


def fails(code, message="said no", reason="", **headers):
    """Answer with a Status."""
    named = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    return lambda _, answer: answer.status(code, message, reason, named)


def lines(*chunks, then=END):
    """Answer with a stream: a chunk each (a dict is a line of JSON), then END, CUT, RESET or HOLD."""

    def handler(request, answer):
        answer.begin()
        for chunk in chunks:
            answer.chunk(chunk)
        answer.finish(then)

    return handler


def silence(request, answer):
    """Take the request and never answer: half-open."""
    answer.hold()


def reset(request, answer):
    """Close the connection instead of an answer."""
    answer.reset()
