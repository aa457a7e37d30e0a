"""An HTTP server in this process, with pages to give and a record of what was asked for."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Page:
    """What the server answers."""

    content: bytes
    kind: str = "text/html"
    status: int = 200
    location: str | None = None  # where it leads instead
    length: int | None = None  # that it says to have


@dataclass
class Server:
    """A running server."""

    address: str
    pages: dict[str, Page] = field(default_factory=dict)  # by path
    asked: list[tuple[str, Message]] = field(default_factory=list)  # path and headers
    password: str | None = None  # the Authorization that requests must have


@contextmanager
def serving() -> Iterator[Server]:
    """A server on this machine, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append((self.path, self.headers))
            page = server.pages.get(self.path, Page(b"", status=404))
            if server.password is not None and self.headers["Authorization"] != server.password:
                page = Page(b"", status=401)
            self.send_response(page.status if page.location is None else 302)
            if page.location is not None:
                self.send_header("Location", page.location)
            self.send_header("Content-Type", page.kind)
            self.send_header("Content-Length", str(len(page.content) if page.length is None else page.length))
            self.end_headers()
            self.wfile.write(page.content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{http_server.server_port}")
    thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http_server.shutdown()
        http_server.server_close()
        thread.join()
