"""The server of the playground: files over HTTP, and each training over a WebSocket.

A session is one connection, in a thread of its own, and ends with it. The page sends what it wants
done as `{"do": ..., ...}`, and gets messages of three types: "points", "frame" and "code", or
"error" for a message that was refused, which changes nothing.
"""

from __future__ import annotations

import http
import json
import threading
import time
from importlib import resources
from typing import Any

from ..errors import optional
from .program import program
from .settings import Settings, SettingsError, whole
from .training import Training

MOST_SESSIONS = 8
LONGEST = 1 << 16  # bytes of a message
MOST_STEPS = 20_000  # that a training can begin with
SPEEDS = 1, 5, 20, 100  # steps for each frame
RATE = 30  # frames in a second

FILES = {
    "/favicon.ico": ("icon.svg", "image/svg+xml"),
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/script.js": ("script.js", "text/javascript; charset=utf-8"),
}
SOCKET = "/training"
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Session:
    """What one page does: its training, whether it runs, and how fast."""

    def __init__(self) -> None:
        self.training = Training(Settings())
        self.runs = False
        self.speed = SPEEDS[0]

    def answer(self, message: Any) -> list[dict[str, Any]]:
        """Do what a message asks for, and return what to send back.

        Raises SettingsError for a message that cannot be understood; then nothing has changed.
        """
        if not isinstance(message, dict) or not isinstance(message.get("do"), str):
            raise SettingsError('message: an object such as {"do": "play"} is expected')
        do = message["do"]
        if do == "play":
            self.runs = True
        elif do == "pause":
            self.runs = False
        elif do == "step":
            self.runs = False
            self.training.advance(1)
        elif do == "speed":
            steps = message.get("steps")
            if type(steps) is not int or steps not in SPEEDS:
                raise SettingsError(f"speed: {steps!r:.40} is none of {SPEEDS}")
            self.speed = steps
        elif do == "reset":
            steps = whole(0, MOST_STEPS)("steps", message.get("steps", 0))
            self.training = Training(Settings.read(message.get("settings")))
            self.training.advance(steps)
            return [self.points(), self.frame()]
        elif do == "code":
            training = self.training
            return [{"type": "code", "code": program(training.settings, training.steps)}]
        else:
            raise SettingsError(f"do: {do!r:.40} is none of play, pause, step, speed, reset, code")
        return [self.frame()]

    def points(self) -> dict[str, Any]:
        """The message with the data set and the settings."""
        settings = self.training.settings.as_dict()
        return {"type": "points", "settings": settings, **self.training.points()}

    def frame(self) -> dict[str, Any]:
        """The message with the state of the training."""
        return {"type": "frame", "runs": self.runs, **self.training.frame()}


class Server:
    """Serves the playground on this machine alone, at `url`, from `serve` until `close`."""

    def __init__(self, port: int = 0) -> None:
        websockets = optional("websockets.sync.server", "python -m tensorgrad playground")
        self._headers = optional("websockets.datastructures", "the playground").Headers
        self._response = optional("websockets.http11", "the playground").Response
        self._closed = optional("websockets.exceptions", "the playground").ConnectionClosed
        self._free = threading.BoundedSemaphore(MOST_SESSIONS)
        self._server = websockets.serve(
            self._session, "127.0.0.1", port,
            process_request=self._request, max_size=LONGEST, compression=None,
        )  # fmt: skip
        self.port = self._server.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"

    def serve(self) -> None:
        """Answer until `close` is called."""
        self._server.serve_forever()

    def close(self) -> None:
        """Stop answering, and end all sessions."""
        self._server.shutdown()

    def _request(self, _connection: Any, request: Any) -> Any:
        """The answer to a request over HTTP; None for a session that may begin."""
        hosts = [f"{name}:{self.port}" for name in ("127.0.0.1", "localhost")]
        if request.headers.get_all("Host") not in [[host] for host in hosts]:
            return self._refusal(403, f"this server is reached at {self.url} alone")
        if getattr(request, "method", "GET") != "GET":
            return self._refusal(405, "only GET is answered")
        path = request.path.partition("?")[0]
        if path == SOCKET:
            origins = request.headers.get_all("Origin")
            if origins not in [[f"http://{host}"] for host in hosts]:
                return self._refusal(403, "only the page of this server may start a training")
            if request.headers.get("Upgrade", "").lower() != "websocket":
                return self._refusal(426, "this address is for WebSockets")
            return None
        if path not in FILES:
            return self._refusal(404, "the page is at /")
        name, kind = FILES[path]
        body = resources.files(__package__).joinpath("page", name).read_bytes()
        return self._reply(200, kind, body)

    def _refusal(self, status: int, text: str) -> Any:
        return self._reply(status, "text/plain; charset=utf-8", f"{text}\n".encode())

    def _reply(self, status: int, kind: str, body: bytes) -> Any:
        headers = {
            **_HEADERS,
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
        phrase = http.HTTPStatus(status).phrase
        return self._response(status, phrase, self._headers(headers), body)

    def _session(self, connection: Any) -> None:
        """Train, and send frames, until the page is closed."""
        if not self._free.acquire(blocking=False):
            connection.close(1013, f"{MOST_SESSIONS} pages are open: close one")
            return
        try:
            self._converse(connection, Session())
        except self._closed:
            pass
        finally:
            self._free.release()

    def _converse(self, connection: Any, session: Session) -> None:
        for message in session.points(), session.frame():
            connection.send(json.dumps(message))
        due = time.monotonic()
        while True:
            wait = max(0.0, due - time.monotonic()) if session.runs else None
            try:
                text = connection.recv(timeout=wait)
            except TimeoutError:
                due = max(due, time.monotonic() - 1 / RATE) + 1 / RATE
                session.training.advance(session.speed)
                connection.send(json.dumps(session.frame()))
                continue
            for message in _answers(session, text):
                connection.send(json.dumps(message))


def _answers(session: Session, text: str | bytes) -> list[dict[str, Any]]:
    try:
        return session.answer(json.loads(text))
    except SettingsError as error:
        return [{"type": "error", "text": str(error)}]
    except (ValueError, RecursionError):
        return [{"type": "error", "text": "message: not JSON"}]


def main(port: int, opens_browser: bool) -> None:
    """Serve the playground until Ctrl-C."""
    server = Server(port)
    print(f"The playground is at {server.url} (Ctrl-C ends it)", flush=True)
    if opens_browser:
        import webbrowser

        webbrowser.open(server.url)
    try:
        server.serve()
    finally:
        server.close()
