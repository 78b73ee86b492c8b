"""A real S3 server (moto's) in a process of its own on loopback, for the tests of object stores."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3

BUCKET = "pictures"


class S3:
    """The server, as tests use it: by boto3, so that what they see does not come from our own client."""

    def __init__(self, endpoint: str, log: Path):
        self.endpoint, self._log = endpoint, log
        self.client = boto3.client("s3", endpoint_url=endpoint)
        self.client.create_bucket(Bucket=BUCKET)

    def put(self, key: str, data: bytes) -> None:
        """Put an object."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def requests(self, method: str, prefix: str) -> list[str]:
        """What was asked for below a prefix so far, from the server's log: names relative to it, in order."""
        begin = f'"{method} /{BUCKET}/{prefix}/'
        asked = [line.partition(begin)[2] for line in self._log.read_text().splitlines()]
        return [rest.split(" ")[0] for rest in asked if rest]

    def upload(self, folder, prefix: str) -> str:
        """Put all files of a folder below a prefix; returns the address."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"s3://{BUCKET}/{prefix}"

    def bytes_of(self, prefix: str) -> dict[str, bytes]:
        """All objects below a prefix, by their names relative to it."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return {
            key.removeprefix(f"{prefix}/"): self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            for key in keys
        }


@contextmanager
def s3_server(*, knows_key: bool = True) -> Iterator[S3]:
    """Start the server and tell the environment, which processes started later inherit.

    Args:
        knows_key: whether it accepts the key, once the bucket is made.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    told = {
        "AWS_ACCESS_KEY_ID": "a-key",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
    }
    before = {name: os.environ.get(name) for name in told}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = os.environ if knows_key else os.environ | {"INITIAL_NO_AUTH_ACTION_COUNT": "1"}
    log = tempfile.NamedTemporaryFile(prefix="s3-")  # noqa: SIM115 - closed below
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log)
    try:
        _wait_until_it_answers(endpoint, server)
        os.environ.update(told)
        yield S3(endpoint, Path(log.name))
    finally:
        server.terminate()
        server.wait()
        log.close()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _wait_until_it_answers(endpoint: str, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the S3 server did not start")
