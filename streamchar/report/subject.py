"""What a report is about: one attempt to characterize an exposure, and the line about it in the index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize import CharacterizationResult
from streamchar.characterize.summary import Summary
from streamchar.errors import StreamcharError
from streamchar.frozen import frozen
from streamchar.image import Exposure
from streamchar.monitor.grades import Assessment

Outcome = Literal["succeeded", "degraded", "failed"]


@frozen(eq=False)
class Subject:
    """One attempt. A failed one has what there was before it failed.

    Attributes
    ----------
    name
        File name or URI, as the user gave it.
    exposure
        As it is now, or ``None`` when it could not be read.
    before
        (height, width): the image as it was read, or ``None``.
    result
        Of the characterization, or ``None`` when it did not begin.
    error
        What ended it early, or ``None``.
    assessment
        Quality grade, or ``None`` when no limits were configured.
    configuration
        Settings in force, as a tree of plain values.
    seconds
        Elapsed from reading to the products.
    """

    name: str
    exposure: Exposure | None = None
    before: NDArray[np.floating[Any]] | None = None
    result: CharacterizationResult | None = None
    error: StreamcharError | None = None
    assessment: Assessment | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def title(self) -> str:
        """The exposure's identity with its band, or the name."""
        if self.exposure is None:
            return self.name
        identity = self.exposure.identity
        return f"{identity} {identity.band}".rstrip()

    @property
    def outcome(self) -> Outcome:
        """``succeeded``, ``degraded`` or ``failed``."""
        if self.error is not None or self.result is None:
            return "failed"
        return self.result.outcome

    @property
    def unit(self) -> str:
        """Unit of the pixels."""
        return "" if self.exposure is None else self.exposure.observation.unit


@frozen
class Entry:
    """One line of the index.

    Attributes
    ----------
    name, title, outcome, grade, unit, seconds
        Of the subject.
    href
        The report's file name.
    error
        Sentence, empty when there is none.
    reasons
        Codes of what was not as it should be.
    summary
        Figures, or ``None`` when there are none.
    thumbnail
        Data URI of the pixels, empty when there are none.
    """

    name: str
    title: str
    outcome: Outcome
    href: str
    grade: str = "unknown"
    unit: str = ""
    seconds: float = 0.0
    error: str = ""
    reasons: tuple[str, ...] = ()
    summary: Summary | None = None
    thumbnail: str = ""
