"""Apache Kafka for the tests of the deployment."""

from tests.stream.apache.fixtures import kafka_jars

__all__ = ["kafka_jars"]
