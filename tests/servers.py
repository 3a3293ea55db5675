"""A real MLflow server on this machine, and a proxy in front of it that fails on demand."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

_START_SECONDS = 120.0


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class MlflowServer:
    """`mlflow server` with a database and a folder of artifacts, which can be restarted.

    The database is a file in the folder, unless another one is given.
    """

    def __init__(self, folder: Path, host: str = "127.0.0.1", database: str | None = None) -> None:
        self._folder = folder.resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._host = host
        self._database = database or f"sqlite:///{self._folder}/server.db"
        self.port = free_port()
        self.uri = f"http://{host}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
                *("--host", self._host, "--port", str(self.port)),
                *("--backend-store-uri", self._database),
                *("--artifacts-destination", str(self._folder / "artifacts")),
            ],
            env={
                **os.environ,
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer,
            ):
                if answer.status == 200:
                    return
            time.sleep(0.1)
        raise AssertionError("mlflow server did not start")

    def stop(self, number: int = signal.SIGKILL) -> None:
        """End the server with all of its processes."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        self._process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process = None


class Proxy:
    """A proxy that forwards requests to a server, or fails them.

    Modes: `pass` forwards; `slow` forwards after `delay` seconds; `500` answers with that status at
    once; `deaf` forwards the request and closes the connection without the answer; `old` answers
    requests about aliases of models with 404.
    """

    def __init__(self, port: int) -> None:
        self.mode = "pass"
        self.delay = 3.0
        self.failed: Counter[str] = Counter()
        """Numbers of requests that were not simply forwarded, by mode."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, port))
        self.uri = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def _handler(proxy: Proxy, port: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        hop_by_hop: ClassVar = {"transfer-encoding", "connection", "content-length"}

        def _pass_on(self) -> None:
            body = self._body()
            mode = proxy.mode
            if mode != "pass":
                proxy.failed[mode] += 1
            if mode == "500":
                self.send_error(500)
                return
            if mode == "old" and self.path.partition("?")[0].endswith("registered-models/alias"):
                self.send_error(404)
                return
            if mode == "slow":
                time.sleep(proxy.delay)
            server = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            try:
                headers = {
                    k: v for k, v in self.headers.items() if k.lower() not in self.hop_by_hop
                }
                server.request(self.command, self.path, body, headers)
                answer = server.getresponse()
                content = answer.read()
            except OSError:
                self.close_connection = True
                return
            finally:
                server.close()
            if mode == "deaf":
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in self.hop_by_hop:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _body(self) -> bytes | None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            length = int(self.headers.get("Content-Length", 0))
            return self.rfile.read(length) if length else None

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815 - http.server's

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    return Handler
