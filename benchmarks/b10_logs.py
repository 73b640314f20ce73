"""B10: a pod's log is followed. One server sends 100,000 lines of about 110 bytes, each with the node's time stamp.

Ours is the whole way into the run's folder: connection, chunks, stamps, what was taken before, file. The peers only
read. The server is another process; what it sends is made beforehand, framed as the kubelet frames it, a chunk a line,
or in chunks of 32 KiB or 1 MiB.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

from pairs import machine, measure

from jupyter_gpudeploy.backends.kubernetes.api.connect import connect
from jupyter_gpudeploy.backends.kubernetes.mirror.copies import LogCopy
from jupyter_gpudeploy.events.store import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster

LINES = 100_000
UID = "11111111-2222-3333-4444-555555555555"
PATH = "/api/v1/namespaces/default/pods/{pod}/log?container=main&follow=true&timestamps=true"
FRAMES = {"line": 0, "32k": 1 << 15, "1m": 1 << 20}


def lines() -> list[bytes]:
    text = "step {0:07d} loss=0.123456 accuracy=0.987654 lr=3.0e-04 tokens/s=12345"
    stamp = "2026-11-23T14:{0:02d}:{1:02d}.{2:09d}Z"
    return [
        f"{stamp.format(n // 6000 % 60, n // 100 % 60, n % 100 * 10_000_000)} {text.format(n)}\n".encode()
        for n in range(LINES)
    ]


def body(frame: int) -> bytes:
    """Return the chunked answer."""
    if not frame:
        return b"".join(b"%x\r\n%b\r\n" % (len(line), line) for line in lines()) + b"0\r\n\r\n"
    whole = b"".join(lines())
    pieces = [whole[start : start + frame] for start in range(0, len(whole), frame)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def serve() -> None:
    """Be the server: the name of the pod says how its log is framed."""
    bodies = {name: body(frame) for name, frame in FRAMES.items()}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                request = connection.recv(65536).decode()
                found = next(name for name in FRAMES if f"/pods/{name}/log" in request)
                head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
                connection.sendall(head + bodies[found])


def ours(cluster: Cluster, folder: Path, pod: str) -> float:
    """Return seconds until every line is in the folder."""
    copy = LogCopy(RunFolder(folder), 0, time.monotonic_ns() % 1_000_000 + 1, UID)
    (folder / "logs").mkdir(exist_ok=True)
    copy._attempt = 1  # noqa: SLF001 - no files for a million attempts before it
    started = time.perf_counter()
    copy.restore("u", "c")
    stream = cluster.open_log(pod, "main", follow=True)
    copy.begin()
    count = 0
    while data := stream.read(1 << 16):
        count += copy.write(data).lines
    copy.finish()
    seconds = time.perf_counter() - started
    assert count == LINES
    return seconds


def watch(port: int, pod: str) -> float:
    """Return seconds of the client package's own way."""
    from kubernetes import client
    from kubernetes import watch as package

    api = client.CoreV1Api(client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{port}")))
    started = time.perf_counter()
    stream = package.Watch().stream(api.read_namespaced_pod_log, pod, "default", container="main", timestamps=True)
    count = sum(1 for _ in stream)
    seconds = time.perf_counter() - started
    assert count == LINES
    return seconds


def http(port: int, pod: str) -> float:
    """Return seconds of http.client's `read1`, which makes no lines of it: the limit of plain Python."""
    connection = HTTPConnection("127.0.0.1", port)
    started = time.perf_counter()
    connection.request("GET", PATH.format(pod=pod))
    response = connection.getresponse()
    size = 0
    while data := response.read1(1 << 16):
        size += len(data)
    seconds = time.perf_counter() - started
    connection.close()
    assert size > LINES
    return seconds


def main() -> None:
    """Print the table."""
    with subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            table(int(server.stdout.readline()))
        finally:
            server.kill()


def table(port: int) -> None:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "b10",
            "contexts": [{"name": "b10", "context": {"cluster": "b10", "user": "b10", "namespace": "default"}}],
            "clusters": [{"name": "b10", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "b10", "user": {"token": "t"}}],
        }  # fmt: skip
        (folder / "config").write_text(json.dumps(config))
        os.environ["KUBECONFIG"] = str(folder / "config")
        cluster = connect()
        print(machine("kubernetes"))
        print("| 100,000 lines | ours | peer | ratio (range) | target |\n|---|---|---|---|---|")
        targets = {"line": "<= 0.05 (>= 20x its lines/s)", "32k": "-", "1m": "-"}
        peers: dict[str, tuple[Callable[[int, str], float], dict[str, str]]] = {
            "kubernetes Watch": (watch, targets),
            "http.client read1, no lines": (http, dict.fromkeys(FRAMES, "-")),
        }
        for name, (peer, aims) in peers.items():
            for pod in FRAMES:
                result = measure(lambda pod=pod: ours(cluster, folder, pod), lambda pod=pod, peer=peer: peer(port, pod))
                print(result.line(f"a chunk is {pod}, against {name}", aims[pod], 1000, "ms"), flush=True)


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
