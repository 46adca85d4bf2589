"""The broker's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from streamchar.configuration import Configuration

Fsync = Literal["never", "always"] | Annotated[int, Field(gt=0)]


class BrokerSettings(Configuration):
    """Settings of the embedded broker; the defaults suit a desk, a test and a small one-machine observatory."""

    data_dir: Path = Path("broker-data")
    """Directory of the log files and the metadata journal; created when missing."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = Field(default=9092, ge=0, le=65535)
    """Port to listen on; 0 chooses a free one."""

    advertised_host: str | None = None
    """Name that clients are told to connect to; the listening address when absent."""

    allow_remote: bool = False
    """Permit an address other than loopback. There is neither TLS nor login: only for trusted networks."""

    auto_create_topics: bool = True
    """Create a topic when a client first asks for it."""

    default_partitions: int = Field(default=4, ge=1, le=10_000)
    """Partitions of a topic created without a partition count."""

    max_partitions: int = Field(default=2_000, ge=1)
    """Partitions in all; each keeps one file open."""

    fsync: Fsync = "never"
    """When records reach the disk. ``never``: written to the operating system before they are acknowledged, so they
    survive a crash of the broker but not of the machine. ``always``: forced to disk before they are acknowledged.
    A number: forced every so many milliseconds."""

    retention_ms: int = Field(default=604_800_000, ge=-1)
    """How long records are kept, in milliseconds (-1: for ever); topics may override it with retention.ms."""

    retention_bytes: int = Field(default=-1, ge=-1)
    """How many bytes a partition keeps (-1: no limit); topics may override it with retention.bytes."""

    retention_check_interval_ms: int = Field(default=10_000, ge=100)
    """How often expired records are looked for, in milliseconds."""

    segment_bytes: int = Field(default=256 << 20, ge=1024)
    """Size at which a log file is closed and a new one begun; retention deletes whole files."""

    segment_ms: int = Field(default=604_800_000, ge=1)
    """Age at which a log file is closed, in milliseconds."""

    max_message_bytes: int = Field(default=1_048_588, ge=0)
    """Largest record batch; topics may override it with max.message.bytes."""

    max_request_bytes: int = Field(default=104_857_600, ge=1 << 20)
    """Largest Produce request; larger ones close the connection."""

    max_inflight_request_bytes: int = Field(default=536_870_912, ge=1 << 20)
    """Bytes of large requests being received at the same time; further ones wait."""

    fetch_max_bytes: int = Field(default=57_671_680, ge=1024)
    """Largest answer to one Fetch request (one larger record batch is still delivered alone)."""

    max_connections: int = Field(default=512, ge=1)
    """Connections at the same time; further ones are closed at once."""

    connection_idle_ms: int = Field(default=600_000, ge=1000)
    """Connections without a request for this long are closed."""

    request_receive_ms: int = Field(default=60_000, ge=100)
    """A request must arrive completely within this time."""

    group_min_session_timeout_ms: int = Field(default=6_000, ge=1)
    """Shortest session timeout a group member may ask for."""

    group_max_session_timeout_ms: int = Field(default=1_800_000, ge=1)
    """Longest session timeout a group member may ask for."""

    group_max_size: int = Field(default=1_000, ge=1)
    """Members of one group."""

    offset_metadata_max_bytes: int = Field(default=4_096, ge=0)
    """Longest text that may be committed with an offset."""

    transaction_max_timeout_ms: int = Field(default=900_000, ge=1)
    """Longest transaction timeout a producer may ask for."""

    transactional_id_expiration_ms: int = Field(default=604_800_000, ge=1000)
    """Transactional ids unused for this long are forgotten."""

    producer_id_expiration_ms: int = Field(default=86_400_000, ge=1000)
    """Sequence numbers of producers silent for this long are forgotten."""

    journal_max_bytes: int = Field(default=8 << 20, ge=4096)
    """Growth of the metadata journal after which it is rewritten as a snapshot."""
