"""The settings of the service: one tree, from one TOML file, environment variables and ``key=value`` overrides."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from streamchar.configuration import Configuration, Tree, merge, parse_override, read_toml, validate
from streamchar.errors import ConfigurationError
from streamchar.image.fits import ReadOptions
from streamchar.kafka.addresses import problem_of
from streamchar.messages.topics import PREFIX, TopicNames
from streamchar.monitor.grades import GradeLimits
from streamchar.monitor.nonsense import PlausibleRange
from streamchar.monitor.page_settings import DashboardSettings
from streamchar.stream.fetch import FetchSettings
from streamchar.stream.store_settings import StoreSettings

ENVIRONMENT_PREFIX = "STREAMCHAR__"


class KafkaSettings(Configuration):
    """How to reach the brokers and the consumer group."""

    bootstrap: str = "127.0.0.1:9092"
    """Brokers to begin with: ``host:port``, several separated by commas."""

    group: str = Field("streamchar", min_length=1)
    """Consumer group; all services of one group share the partitions."""

    instance_id: str | None = None
    """Static membership (``group.instance.id``): unique for each service and stable over restarts, for example the
    ordinal of a StatefulSet. With it a restart does not rebalance the group."""

    client_id: str = "streamchar"
    """Name shown in the brokers' logs and quotas."""

    session_timeout: float = Field(30.0, gt=0)
    """Seconds without a heartbeat after which the group gives the partitions away."""

    heartbeat_interval: float = Field(3.0, gt=0)
    """Seconds between heartbeats."""

    rebalance_timeout: float = Field(60.0, gt=0)
    """Seconds a member may take to give its partitions back; at least the time one publication takes."""

    max_poll_interval: float = Field(300.0, gt=0)
    """Seconds between two polls after which the client leaves the group."""

    request_timeout: float = Field(20.0, gt=0)
    """Seconds to wait for an answer of a broker."""

    start_timeout: float = Field(30.0, gt=0)
    """Seconds to wait for the first contact with the brokers."""

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Whether connections are encrypted and how the service says who it is."""

    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How the password is proven."""

    sasl_username: str | None = None
    """User name."""

    sasl_password: SecretStr | None = None
    """Password; prefer ``sasl_password_file`` or the environment over writing it into the configuration."""

    sasl_password_file: Path | None = None
    """File that holds the password, for example a mounted secret."""

    ssl_cafile: Path | None = None
    """Certificate authorities in PEM; the system's when absent."""

    ssl_certfile: Path | None = None
    """The service's certificate in PEM (mutual TLS)."""

    ssl_keyfile: Path | None = None
    """Key of the certificate in PEM."""

    ssl_check_hostname: bool = True
    """Whether the broker's certificate must carry its host name."""

    @field_validator("bootstrap")
    @classmethod
    def _check_addresses(cls, value: str) -> str:
        problem = problem_of(value)
        if problem:
            raise ValueError(f"{problem}; write host:port, several separated by commas")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.heartbeat_interval * 2 > self.session_timeout:
            raise ValueError("heartbeat_interval must be at most half of session_timeout")
        if self.security_protocol.startswith("SASL") and not self.sasl_username:
            raise ValueError("sasl_username is needed with SASL")
        return self

    def connection(self) -> dict[str, Any]:
        """Return the keyword arguments that every aiokafka client needs; reads certificate and password files.

        Raises
        ------
        ConfigurationError
            A file cannot be read.
        """
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap.split(","),
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
            "request_timeout_ms": milliseconds(self.request_timeout),
        }
        if self.security_protocol.endswith("SSL"):
            arguments["ssl_context"] = self._ssl_context()
        if self.security_protocol.startswith("SASL"):
            arguments["sasl_mechanism"] = self.sasl_mechanism
            arguments["sasl_plain_username"] = self.sasl_username
            arguments["sasl_plain_password"] = self._password()
        return arguments

    def _ssl_context(self) -> ssl.SSLContext:
        with _reading(ssl_cafile=self.ssl_cafile):
            context = ssl.create_default_context(cafile=self.ssl_cafile)
        context.check_hostname = self.ssl_check_hostname
        if self.ssl_certfile is not None:
            with _reading(ssl_certfile=self.ssl_certfile, ssl_keyfile=self.ssl_keyfile):
                context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile)
        return context

    def _password(self) -> str:
        if self.sasl_password_file is not None:
            with _reading(sasl_password_file=self.sasl_password_file):
                return self.sasl_password_file.read_text(encoding="utf-8").strip()
        return self.sasl_password.get_secret_value() if self.sasl_password is not None else ""


@contextmanager
def _reading(**files: Path | None) -> Iterator[None]:
    """Name the settings, and the files they name, whose reading fails; :mod:`ssl` does not."""
    try:
        yield
    except (OSError, ValueError) as error:  # of which SSL and Unicode errors are kinds
        named = ", ".join(f"{name} = {path}" for name, path in files.items() if path is not None)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigurationError.at("kafka", f"{named}: cannot be read: {reason}") from error


class TopicSettings(Configuration):
    """Names of the topics, and whether they may be created."""

    prefix: str = Field(PREFIX, min_length=1)
    """First part of every topic name, for installations that share a cluster."""

    create: bool = True
    """Create missing topics at the start; otherwise their absence is an error that names them."""

    partitions: int = Field(0, ge=0)
    """Partitions of created topics; 0 for the recommended number of each. Those of the input topic are the upper
    limit of services in the group."""

    replication: int = Field(0, ge=0)
    """Replicas of created topics; 0 for three, or one for each broker where there are fewer."""

    @property
    def names(self) -> TopicNames:
        """The names with this prefix."""
        return TopicNames(self.prefix)

    def inputs(self) -> tuple[str, str]:
        """Topics the service reads."""
        return self.names.exposure_ready, self.names.retry


class DeliverySettings(Configuration):
    """How results are published."""

    mode: Literal["exactly_once", "at_least_once"] = "exactly_once"
    """``exactly_once``: products, status and offset of an exposure in one transaction. ``at_least_once``: publish,
    wait for the acknowledgement, then commit; a crash in between repeats messages with the same identifiers."""

    transaction_timeout: float = Field(30.0, gt=0)
    """Seconds after which the broker aborts a transaction that was left open."""

    publish_timeout: float = Field(60.0, gt=0)
    """Seconds to wait until everything of a publication is acknowledged. After that the service turns unready, joins
    the group anew as soon as the brokers answer, and publishes what is finished."""

    batch_events: int = Field(32, ge=1)
    """Most events published in one transaction when several are finished at the same time."""

    batch_bytes: int = Field(16 << 20, ge=1)
    """Most bytes published in one transaction, unless a single event is larger."""

    attempts: int = Field(3, ge=1)
    """How often an aborted transaction is tried before the partition is taken over anew."""

    max_message_bytes: int = Field(1_000_000, ge=10_000)
    """Largest message sent, headers included. At the start it is lowered to what the topics allow
    (``max.message.bytes``), and catalogues are divided accordingly."""

    linger: float = Field(0.0, ge=0)
    """Seconds the producer waits for more messages before it sends."""

    compression: Literal["gzip", "snappy", "lz4", "zstd"] | None = None
    """Compression of record batches; catalogue columns are compressed by themselves."""

    @property
    def max_value_bytes(self) -> int:
        """Largest value of a message: a tenth of ``max_message_bytes`` is left to key and headers."""
        return int(0.9 * self.max_message_bytes)


class WorkerSettings(Configuration):
    """The worker processes."""

    count: int = Field(2, ge=1, le=1024)
    """Number of worker processes; one for each processor core is right."""

    spares: int = Field(1, ge=0, le=1024)
    """Further worker processes kept ready, without work, to take the place of a lost one at once; each needs the
    memory of an idle worker."""

    niceness: int = Field(10, ge=0, le=19)
    """By how much workers yield the processors to everything else: the coordinator's heartbeats and publications do
    not wait for exposures. With more busy workers than cores it divides the lag of the coordinator's loop by four."""

    job: str = "streamchar.stream.characterize_job:characterize"
    """Import path of what workers do, ``module:function``."""

    deadline: float = Field(120.0, gt=0)
    """Seconds an exposure may take before its worker is killed."""

    memory_limit: int = Field(2 << 30, ge=0)
    """Bytes of private memory a worker may use; 0 for no limit."""

    recycle_after: int = Field(500, ge=1)
    """Exposures after which a worker process is replaced."""

    start_timeout: float = Field(60.0, gt=0)
    """Seconds a worker may take to become ready."""

    result_limit: int = Field(256 << 20, gt=0)
    """Largest result of one exposure in bytes."""


class LimitSettings(Configuration):
    """How much may be in flight."""

    events_in_flight: int = Field(0, ge=0)
    """Events handed to workers, those that wait for one included; 0 for three for each worker. Finished events that
    wait for publication are bounded by ``bytes_in_flight``."""

    bytes_in_flight: int = Field(256 << 20, gt=0)
    """Bytes of finished but unpublished results above which no further event is started."""

    backlog_events: int = Field(200, ge=2)
    """Events buffered for each partition; reading pauses above, and resumes below half of it."""

    delayed_events: int = Field(500, ge=1)
    """Events that may wait for a later attempt in memory, all partitions together."""

    message_bytes: int = Field(1 << 20, gt=0)
    """Largest input message that is looked at; larger ones are dead letters."""

    duplicate_window: int = Field(1000, ge=0)
    """Records of a partition before an event among which the same event (identifier, instrument, exposure, detector)
    makes it a repetition, which is not processed again; 0 processes every announcement. They are looked at again
    whenever a partition is taken over."""

    expire_after: float = Field(86_400.0, gt=0)
    """Seconds after its creation when an event is no longer worth processing: its status is ``expired``."""


class RetrySettings(Configuration):
    """What happens to an event that failed."""

    in_process: int = Field(2, ge=0)
    """Further attempts without leaving the process after a retryable failure."""

    backoff: float = Field(0.5, ge=0)
    """Seconds before the first further attempt; doubles each time."""

    backoff_max: float = Field(10.0, ge=0)
    """Longest time between attempts in process."""

    rounds: int = Field(5, ge=0)
    """How often an event may pass through the retry topic."""

    delay: float = Field(30.0, ge=0)
    """Seconds an event stays in the retry topic at least, the first time; doubles each round."""

    delay_max: float = Field(600.0, ge=0)
    """Longest stay in the retry topic."""

    lost_attempts: int = Field(2, ge=1)
    """Attempts in all for an event whose worker is lost (timeout, out of memory, crash)."""


class BreakerSettings(Configuration):
    """When to stop because almost everything fails."""

    window: int = Field(50, ge=1)
    """Number of latest events that count."""

    minimum: int = Field(20, ge=1)
    """Events needed before the ratio means anything."""

    ratio: float = Field(0.5, gt=0, le=1)
    """Fraction of dead letters and impossible results (``plausible``) above which the breaker opens."""

    consecutive: int = Field(15, ge=1)
    """Dead letters or impossible results in a row that open it at once."""

    cool_down: float = Field(60.0, gt=0)
    """Seconds without intake before a single event is tried again."""


class VisitSettings(Configuration):
    """What belongs to a visit, so that a detector that is never announced is noticed."""

    detectors: dict[str, Annotated[int, Field(ge=1, le=100_000)] | tuple[int, ...]] = Field(
        default_factory=dict
    )
    """Detectors by instrument: their number, when they are numbered from 0, or a list of their numbers. For example
    ``DemoCam = 9``. Instruments that are not named are not watched."""

    after: float = Field(120.0, gt=0)
    """Seconds after the first announcement of a visit when detectors that were not announced count as missing."""

    def expected(self) -> dict[str, frozenset[int]]:
        """Detector numbers by instrument."""
        return {
            instrument: frozenset(range(detectors) if isinstance(detectors, int) else detectors)
            for instrument, detectors in self.detectors.items()
        }


class HttpSettings(Configuration):
    """The port for health and metrics."""

    host: str = "127.0.0.1"
    """Address to listen on; the loopback address unless told otherwise."""

    port: int = Field(8750, ge=0, le=65535)
    """Port; 0 for any free one."""

    enabled: bool = True
    """Whether to listen at all."""


class LifecycleSettings(Configuration):
    """Start, stop and stuck."""

    drain: float = Field(30.0, ge=0)
    """Seconds after SIGTERM in which running exposures may finish."""

    stuck_after: float = Field(900.0, gt=0)
    """Seconds with waiting events and no finished one after which the service ends with an error. Time in which the
    brokers are away does not count."""

    outage: float = Field(0.0, ge=0)
    """Seconds the brokers may be away before the service ends with an error; 0 waits as long as it takes. Finished
    results are kept meanwhile, within ``limits.bytes_in_flight``."""

    recoveries: int = Field(10, ge=0)
    """How often in a row, without a publication in between, the service joins the group anew after an error that is
    no silence of the brokers, before it ends."""


class ServiceSettings(Configuration):
    """Everything `streamchar serve` can be told."""

    kafka: KafkaSettings = KafkaSettings()
    """Brokers and group."""

    topics: TopicSettings = TopicSettings()
    """Topics."""

    delivery: DeliverySettings = DeliverySettings()
    """Publication."""

    workers: WorkerSettings = WorkerSettings()
    """Worker processes."""

    limits: LimitSettings = LimitSettings()
    """Flow control and expiry."""

    retry: RetrySettings = RetrySettings()
    """Failed events."""

    visits: VisitSettings = VisitSettings()
    """Completeness of visits."""

    breaker: BreakerSettings = BreakerSettings()
    """Protection against failing all night."""

    fetch: FetchSettings = FetchSettings()
    """Access to files, hosts and buckets."""

    read: ReadOptions = ReadOptions()
    """How files are understood: instrument profile and limits."""

    store: StoreSettings = StoreSettings()
    """Where characterized exposures are kept, if at all."""

    http: HttpSettings = HttpSettings()
    """Health and metrics."""

    dashboard: DashboardSettings = DashboardSettings()
    """The live page."""

    lifecycle: LifecycleSettings = LifecycleSettings()
    """Start and stop."""

    grades: dict[str, dict[str, GradeLimits]] = Field(default_factory=dict)
    """Limits of the quality grades: by ``default``, instrument or ``instrument/band``, then by quantity of the
    psf-quality message, for example ``[grades."DemoCam/r".seeing]`` with yellow, orange and red."""

    plausible: dict[str, dict[str, PlausibleRange]] = Field(default_factory=dict)
    """Ranges outside which a result is nonsense, by ``default``, instrument or ``instrument/band``, then by quantity, for
    example ``[plausible.DemoCam.psf_fwhm]`` with least and most. Nonsense is graded red and counts for the breaker as a
    dead letter does. Where nothing is said: psf_fwhm 0.7 to 60 pixels, seeing 0.01 to 60 arcsec, star_e_median at most
    0.9, cosmic_ray_fraction at most 0.2."""

    characterize: dict[str, Any] = Field(default_factory=dict)
    """Settings of the characterization, as in `streamchar config show`."""

    def with_message_limit(self, limit: int) -> ServiceSettings:
        """Return these settings with ``delivery.max_message_bytes`` lowered to ``limit``."""
        limit = min(limit, self.delivery.max_message_bytes)
        delivery = self.delivery.model_copy(update={"max_message_bytes": limit})
        return self.model_copy(update={"delivery": delivery})

    @property
    def events_in_flight(self) -> int:
        """Resolved ``limits.events_in_flight``."""
        return self.limits.events_in_flight or 3 * self.workers.count


def load_settings(
    path: Path | None = None,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> ServiceSettings:
    """Read the settings: defaults, then the file, then the environment, then the overrides.

    Parameters
    ----------
    path
        TOML file.
    overrides
        ``dotted.name=value``.
    environment
        Variables such as ``STREAMCHAR__KAFKA__BOOTSTRAP``; the process's own when omitted.

    Raises
    ------
    ConfigurationError
        Names the setting, where it comes from and what is wrong.
    """
    tree = read_toml(path) if path is not None else {}
    validate(ServiceSettings, tree, str(path))
    variables = environment_tree(os.environ if environment is None else environment)
    if variables:
        validate(ServiceSettings, merge(tree, variables), f"environment ({ENVIRONMENT_PREFIX}...)")
    for override in overrides:
        merge(tree, parse_override(override, ServiceSettings))
    return validate(ServiceSettings, tree, "override" if overrides else str(path or "settings"))


def environment_tree(environment: Mapping[str, str]) -> Tree:
    """Collect ``STREAMCHAR__SECTION__NAME=value`` into a tree of settings.

    >>> environment_tree({"STREAMCHAR__KAFKA__GROUP": "night", "HOME": "/root"})
    {'kafka': {'group': 'night'}}
    """
    tree: Tree = {}
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT_PREFIX):
            path = name[len(ENVIRONMENT_PREFIX) :].lower().replace("__", ".")
            merge(tree, parse_override(f"{path}={environment[name]}", ServiceSettings))
    return tree


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, as Kafka clients want them."""
    return max(1, round(seconds * 1000))
