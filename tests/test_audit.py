"""`make audit` against a service of advisories on this machine."""

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

AUDIT = Path(__file__).parents[1] / ".ci" / "audit.py"


class Service(ThreadingHTTPServer):
    """Answers as osv.dev does: `bad` names the package that it knows an advisory of, `broken` that it knows nothing."""

    bad: str | None = None
    broken = False


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        package, version = question["package"], question["version"]
        ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999"}]}]
        affected = {"package": package, "ranges": ranges, "versions": [version]}
        advisory = {"id": "PYSEC-2026-1", "published": "2026-01-01T00:00:00Z", "summary": "bad", "affected": [affected]}
        known = package["name"] == self.server.bad
        self.send_response(500 if self.server.broken else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"vulns": [advisory]} if known else {}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("bad", "broken", "status", "said"),
    [
        (None, False, 0, "0 advisories against"),
        ("tyro", False, 1, "PYSEC-2026-1, mended in 999"),
        (None, True, 2, "Advisories were NOT checked"),
    ],
)
def test_advisories_are_told(service: Service, bad: str | None, broken: bool, status: int, said: str) -> None:
    service.bad, service.broken = bad, broken
    asked = ["--vulnerability-service", "osv", "--osv-url", f"http://127.0.0.1:{service.server_port}/v1/query"]
    done = subprocess.run([sys.executable, str(AUDIT), *asked], capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    assert said in done.stdout
    assert "torch " in done.stdout  # among the licences
