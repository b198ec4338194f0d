"""Slack's API on the loopback address, as far as posting a message goes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

TOKEN = "xoxb-of-a-test"
CHANNEL = "#reviews"


@dataclass
class SlackServer:
    """What was posted, and where the API is."""

    url: str
    texts: list[str] = field(default_factory=list)


@contextmanager
def slack_server() -> Iterator[SlackServer]:
    """Start the API; it knows one channel and one token."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            fields = (
                json.loads(body)
                if "json" in self.headers["Content-Type"]
                else {name: values[0] for name, values in parse_qs(body).items()}
            )
            problem = _problem(self.path, self.headers["Authorization"], fields["channel"])
            if not problem:
                slack.texts.append(fields["text"])
            answer = json.dumps({"ok": not problem, "error": problem}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    slack = SlackServer(f"http://127.0.0.1:{server.server_port}/api")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield slack
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _problem(path: str, authorization: str | None, channel: str) -> str:
    if path != "/api/chat.postMessage":
        return "unknown_method"
    if authorization != f"Bearer {TOKEN}":
        return "invalid_auth"
    return "" if channel == CHANNEL else "channel_not_found"
