"""Does the jobs that wait, the oldest first: all of them and no more with --once, else for ever."""

import os
import pathlib
import signal
import sys
import time

QUEUE = pathlib.Path(os.environ.get("QUEUE", "/tmp/queue"))


def work():
    for job in sorted(QUEUE.iterdir(), key=lambda job: job.stat().st_mtime):
        job.unlink()
        print("done:", job.name, flush=True)


QUEUE.mkdir(parents=True, exist_ok=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
work()
print("idle", flush=True)
while "--once" not in sys.argv[1:]:
    time.sleep(1)
    work()
