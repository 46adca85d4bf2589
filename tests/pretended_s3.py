"""An S3 that moto pretends, for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import boto3
import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def pretended_s3(*buckets: str) -> Iterator[SimpleNamespace]:
    """Give ``client`` and ``endpoint`` of a server with these buckets.

    All servers of one process share what they hold: use other names than other tests.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            patch.delenv(name, raising=False)
        for name, value in (
            ("ACCESS_KEY_ID", "test"),
            ("SECRET_ACCESS_KEY", "test"),
            ("DEFAULT_REGION", "us-east-1"),
        ):
            patch.setenv(f"AWS_{name}", value)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        try:
            endpoint = "http://{}:{}".format(*server.get_host_and_port())
            client = boto3.client("s3", endpoint_url=endpoint)
            for bucket in buckets:
                client.create_bucket(Bucket=bucket)
            yield SimpleNamespace(client=client, endpoint=endpoint)
            client.close()
        finally:
            server.stop()
