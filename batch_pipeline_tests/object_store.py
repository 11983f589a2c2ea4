"""An S3 server on loopback, with buckets of the tests' own."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from moto.server import ThreadedMotoServer

ACCESS_KEY, SECRET_KEY = "AKIDTEST", "secret-not-for-logs-0815"


class ObjectStore:
    """`address` is what s3fs and boto3 call the endpoint."""

    def __init__(self, address: str) -> None:
        self.address = address

    def environment(self) -> dict[str, str]:
        """What a process must be given to reach it, by s3fs's and AWS's own names."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "eu-west-1",
        }

    def bucket(self, name: str) -> str:
        """Makes a bucket; its address as fsspec writes it."""
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=self.address,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="eu-west-1",
        )
        client.create_bucket(
            Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        return f"s3://{name}"


@contextmanager
def running() -> Iterator[ObjectStore]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield ObjectStore(f"http://{host}:{port}")
    finally:
        server.stop()
