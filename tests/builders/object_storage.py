"""An S3 service for tests: the program moto_server, spoken to over HTTP as any other."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tests.builders.orthanc import free_port
from tests.builders.waiting import until

BUCKET = "hospital"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


def _answers(port: int) -> bool:
    with closing(socket.socket()) as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def s3_service(program: str) -> Iterator[str]:
    """Run the service with one bucket and yield its address."""
    port = free_port()
    command = [program, "-H", "127.0.0.1", "-p", str(port)]
    with tempfile.TemporaryFile() as log:
        service = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            until(lambda: _answers(port), within_s=120)
            url = f"http://127.0.0.1:{port}"
            _make_bucket(url)
            yield url
        finally:
            service.terminate()
            service.wait(30)


def _make_bucket(url: str) -> None:
    """Make the bucket by a process of its own, whose client library leaves nothing open here."""
    program = (
        "import sys, s3fs; s3fs.S3FileSystem(endpoint_url=sys.argv[1], use_listings_cache=False)"
        ".mkdir(sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", program, url, BUCKET], check=True, env={**os.environ, **KEYS})
