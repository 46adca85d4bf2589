"""What to do with an event that failed: try again, send it to the retry topic, or to the dead letters. Pure."""

from __future__ import annotations

from typing import Literal

from streamchar.frozen import frozen
from streamchar.stream.job import JobFailure
from streamchar.stream.settings import RetrySettings

Step = Literal["again", "later", "dead"]


@frozen
class History:
    """What an event went through.

    Attributes
    ----------
    tries
        Attempts in this process since it was read, the failed one included.
    lost
        How many of all attempts lost their worker, also in earlier rounds.
    rounds
        How often it came through the retry topic.
    """

    tries: int = 1
    lost: int = 0
    rounds: int = 0


@frozen
class Decision:
    """The next step for a failed event.

    Attributes
    ----------
    step
        "again": another attempt in this process after ``delay`` seconds; "later": the retry topic, not before
        ``delay`` seconds; "dead": the dead letters.
    delay
        Seconds.
    """

    step: Step
    delay: float = 0.0


def decide(failure: JobFailure, history: History, settings: RetrySettings) -> Decision:
    """Choose the next step.

    Permanent failures are dead letters at once. A lost worker is tried again at once, a bounded number of times:
    the event may be the reason. Retryable failures are tried again with exponential backoff, first in process,
    then through the retry topic.
    """
    if failure.category == "permanent":
        return Decision("dead")
    if failure.category == "lost":
        return Decision("again") if history.lost < settings.lost_attempts else Decision("dead")
    if history.tries <= settings.in_process:
        return Decision("again", min(settings.backoff_max, settings.backoff * 2.0 ** (history.tries - 1)))
    if history.rounds < settings.rounds:
        return Decision("later", min(settings.delay_max, settings.delay * 2.0**history.rounds))
    return Decision("dead")
