"""What crosses the pipe between coordinator and worker: an assignment, and a result or a failure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Literal

from streamchar.frozen import frozen
from streamchar.stream.framing import Buffer, Frame

Headers = tuple[tuple[str, bytes], ...]
Category = Literal["retryable", "permanent", "lost"]


@frozen
class Assignment:
    """One event for a worker: the original message.

    Attributes
    ----------
    value
        The message as it was read.
    headers
        Its headers.
    attempt
        1 for the first attempt.
    """

    value: bytes
    headers: Headers = ()
    attempt: int = 1


@frozen
class Message:
    """A finished message.

    Attributes
    ----------
    type
        Which of the output topics it goes to ("psf-quality", "source-catalog", "psf-model", ...).
    key, value, headers
        As published.
    """

    type: str
    key: bytes
    value: Buffer
    headers: Headers = ()


@frozen
class MetricDelta:
    """A change of a metric, made by a worker and applied to the coordinator's registry.

    Attributes
    ----------
    name
        A name of :data:`streamchar.monitor.metrics.DEFINITIONS`.
    value
        Increment of a counter, new value of a gauge, observation of a histogram.
    labels
        Label values by name.
    """

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


@frozen
class JobResult:
    """What a worker made of an event.

    Attributes
    ----------
    outcome
        "succeeded", or "degraded" when something was left out.
    reasons
        Why it is degraded: fields of :class:`streamchar.messages.Reason`.
    messages
        The products, encoded.
    products
        What was made: fields of :class:`streamchar.messages.ProductDescription`; counted from the messages
        when empty.
    timings
        Stage, CPU seconds and elapsed seconds.
    metrics
        Metric changes.
    summary
        Few plain values for the log.
    """

    outcome: Literal["succeeded", "degraded"] = "succeeded"
    reasons: tuple[Mapping[str, Any], ...] = ()
    messages: tuple[Message, ...] = ()
    products: tuple[Mapping[str, Any], ...] = ()
    timings: tuple[tuple[str, float, float], ...] = ()
    metrics: tuple[MetricDelta, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all messages."""
        return sum(memoryview(message.value).nbytes for message in self.messages)


@frozen
class JobFailure:
    """Why a worker has no result.

    Attributes
    ----------
    category
        "retryable", "permanent", or "lost" when the worker did not survive.
    code
        Stable reason code.
    text
        One sentence.
    values
        The values of the sentence.
    traceback
        Where it happened; bounded, empty when unknown.
    """

    category: Category
    code: str
    text: str
    values: Mapping[str, Any] = field(default_factory=dict)
    traceback: str = ""


Job = Callable[[Assignment], JobResult]
"""What a worker runs for each event."""


def assignment_frame(assignment: Assignment) -> Frame:
    """Frame for an assignment."""
    header = {"kind": "job", "headers": list(assignment.headers), "attempt": assignment.attempt}
    return Frame(header, (assignment.value,))


def parse_assignment(frame: Frame) -> Assignment:
    """Assignment of a frame."""
    headers = tuple((name, value) for name, value in frame.header["headers"])
    return Assignment(bytes(frame.buffers[0]), headers, frame.header["attempt"])


def result_frame(result: JobResult) -> Frame:
    """Frame for a result; the message values travel as raw buffers."""
    header = {
        "kind": "result",
        "outcome": result.outcome,
        "reasons": [dict(reason) for reason in result.reasons],
        "products": [dict(product) for product in result.products],
        "timings": [list(timing) for timing in result.timings],
        "metrics": [[delta.name, delta.value, dict(delta.labels)] for delta in result.metrics],
        "summary": dict(result.summary),
        "messages": [[message.type, message.key, list(message.headers)] for message in result.messages],
    }
    return Frame(header, tuple(message.value for message in result.messages))


def failure_frame(failure: JobFailure) -> Frame:
    """Frame for a failure."""
    header = {
        "kind": "failure",
        "category": failure.category,
        "code": failure.code,
        "text": failure.text,
        "values": dict(failure.values),
        "traceback": failure.traceback,
    }
    return Frame(header)


def parse_outcome(frame: Frame) -> JobResult | JobFailure:
    """Result or failure of a frame.

    Raises
    ------
    KeyError, TypeError, ValueError
        The frame is neither.
    """
    header = dict(frame.header)
    kind = header.pop("kind")
    if kind == "failure":
        return JobFailure(**header)
    if kind != "result":
        raise ValueError(f"a worker answered with a frame of kind {kind!r}")
    messages = tuple(
        Message(topic, key, value, tuple((name, content) for name, content in headers))
        for (topic, key, headers), value in zip(header["messages"], frame.buffers, strict=True)
    )
    return JobResult(
        outcome=header["outcome"],
        reasons=tuple(header["reasons"]),
        messages=messages,
        products=tuple(header["products"]),
        timings=tuple((stage, cpu, wall) for stage, cpu, wall in header["timings"]),
        metrics=tuple(MetricDelta(name, value, labels) for name, value, labels in header["metrics"]),
        summary=header["summary"],
    )
