"""The breaker: stops the intake when almost every event becomes a dead letter or nonsense. Pure; time is an argument."""

from __future__ import annotations

from collections import deque
from typing import Literal

from streamchar.stream.settings import BreakerSettings

State = Literal["closed", "open", "probing"]


class Breaker:
    """Counts dead letters, and results with impossible values, among the latest events.

    Closed: everything passes. Open: nothing passes until the cool-down is over. Probing: one event passes, and
    its end decides. Should it end without a verdict (it went to the retry topic, or its partition to another service),
    another one passes after a further cool-down.

    Parameters
    ----------
    settings
        Limits.
    """

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._latest: deque[bool] = deque(maxlen=settings.window)
        self._in_a_row = 0
        self._opened_at = 0.0
        self._probe_taken_at: float | None = None
        self._state: State = "closed"

    def state(self, now: float) -> State:
        """Return the state at the monotonic time ``now``."""
        if self._state == "open" and now - self._opened_at >= self._settings.cool_down:
            self._state = "probing"
            self._probe_taken_at = None
        return self._state

    def allows(self, now: float) -> bool:
        """Say whether another event may be started."""
        state, taken = self.state(now), self._probe_taken_at
        is_free = taken is None or now - taken >= self._settings.cool_down
        return state == "closed" or (state == "probing" and is_free)

    def started(self, now: float) -> None:
        """Note that an event was started."""
        self._probe_taken_at = now

    def finished(self, *, dead: bool, now: float) -> None:
        """Note how an event ended."""
        if self._state == "probing" and not dead:
            self._latest.clear()
            self._state = "closed"
        self._latest.append(dead)
        self._in_a_row = self._in_a_row + 1 if dead else 0
        if self._state == "probing" or (self._state == "closed" and self._should_open()):
            self._state = "open"
            self._opened_at = now

    def _should_open(self) -> bool:
        settings = self._settings
        if self._in_a_row >= settings.consecutive:
            return True
        enough = len(self._latest) >= min(settings.minimum, settings.window)
        return enough and sum(self._latest) > settings.ratio * len(self._latest)
