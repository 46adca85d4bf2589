"""The embedded single-node Kafka broker: one process, durable log files, the protocol versions aiokafka speaks.

It exists so that a desk, a test and a small one-machine observatory need nothing but this package. It is not a
cluster: there is one node, no replication, no TLS and no SASL, and logs are never compacted. A larger installation runs
Apache Kafka; the same conformance suite (``tests/stream/conformance``) runs against both.

Examples
--------
>>> from streamchar.broker import BrokerSettings, EmbeddedBroker
>>> async def main() -> None:
...     async with EmbeddedBroker(BrokerSettings(data_dir="night", port=0)) as broker:
...         print(broker.bootstrap)
"""

from streamchar.broker.config import BrokerSettings
from streamchar.broker.server import EmbeddedBroker

__all__ = ["BrokerSettings", "EmbeddedBroker"]
