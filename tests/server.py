"""A small HTTP server on this machine, with the faults of real ones."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """Files by path, and how they are served."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    breaks_after: int | None = None
    """Bytes after which an answer breaks off."""
    repaired_after: int = 10**9
    """Requests after which it no longer breaks off."""
    length: bool = True
    """Whether it says how long a file is."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Path and Range header of every request."""
    address: str = ""


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answers on a free port while the block runs; gives the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def serve(site: Site) -> Iterator[Site]:
    """Serves the site on a free port while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            site.asked.append((self.path, wanted))
            content = site.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and site.ranges else 0
            if first >= len(content) > 0 and first:
                self.send_response(416)
                self.end_headers()
                return
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            if site.length:
                self.send_header("Content-Length", str(len(content) - first))
            self.end_headers()
            body = content[first:]
            if site.breaks_after is not None and len(site.asked) <= site.repaired_after:
                body = body[: site.breaks_after]
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with answering(Handler) as site.address:
        yield site
