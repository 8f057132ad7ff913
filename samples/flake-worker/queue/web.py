"""Takes a job with each GET of /jobs/NAME, and says at / which ones wait."""

import html
import os
import pathlib
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

QUEUE = pathlib.Path(os.environ.get("QUEUE", "/tmp/queue"))


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        prefix, _, name = self.path.rpartition("/")
        if prefix == "/jobs" and name.isalnum():
            (QUEUE / name).touch()
        waiting = "".join(f"<li>{html.escape(job.name)}" for job in sorted(QUEUE.iterdir()))
        page = f"<!doctype html><title>Queue</title><h1>Queue</h1><ul>{waiting}</ul>\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)


QUEUE.mkdir(parents=True, exist_ok=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
