"""The smallest fleet that meets a survey's deadline, and what it needs of machines and brokers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamchar.frozen import frozen
from streamchar.planning.errors import UnreachableDeadlineError
from streamchar.planning.profile import ServiceProfile
from streamchar.planning.simulation import Faults, Fleet, simulate_night
from streamchar.planning.surveys import Survey

PARTITIONS_PER_REPLICA = 4
"""So that a lost replica's partitions spread over several others, and replicas can be added later without new partitions."""
COORDINATOR_MEMORY = 80e6
"""Bytes of a coordinator: 75 to 77 MiB measured over 20,000 events."""
SEARCHED_EXPOSURES = 200
"""Exposures simulated for each fleet that is tried; the chosen one serves the whole night."""


@frozen(eq=False)
class Plan:
    """A fleet and what it does.

    Attributes
    ----------
    survey, profile, fleet
        What was asked, what an exposure costs, and who serves it.
    latencies
        float64: of every detector's exposure of a night, seconds from the shutter's closing.
    percentile
        Per cent of the exposures that must meet the deadline.
    replication
        Copies that the brokers keep of each message.
    """

    survey: Survey
    profile: ServiceProfile
    fleet: Fleet
    latencies: NDArray[np.float64]
    percentile: float
    replication: int

    @property
    def cores(self) -> int:
        """One for each worker and one for each coordinator."""
        return self.fleet.replicas * (self.fleet.workers + 1)

    @property
    def memory(self) -> float:
        """Bytes of all replicas."""
        worker = self.profile.memory(self.survey.megapixels)
        return self.fleet.replicas * (COORDINATOR_MEMORY + self.fleet.workers * worker)

    @property
    def utilisation(self) -> float:
        """Fraction of the workers' time in use."""
        seconds = self.profile.seconds(self.survey.megapixels) * np.exp(0.5 * self.profile.scatter**2)
        return float(self.survey.rate * seconds / (self.fleet.replicas * self.fleet.workers))

    @property
    def bandwidth(self) -> float:
        """Bytes per second that producers send to the brokers, on average; each replica of a message costs as much again."""
        return self.survey.rate * self.profile.message_bytes(self.survey.megapixels)

    @property
    def burst_bandwidth(self) -> float:
        """Bytes per second while one exposure of the whole focal plane is published."""
        busy = self.survey.detectors * self.profile.seconds(self.survey.megapixels)
        duration = max(
            busy / (self.fleet.replicas * self.fleet.workers), self.profile.seconds(self.survey.megapixels)
        )
        return self.survey.detectors * self.profile.message_bytes(self.survey.megapixels) / duration

    @property
    def night_bytes(self) -> float:
        """Bytes that a night leaves on the brokers' disks, all copies."""
        return self.bandwidth * self.survey.night * 3600.0 * self.replication

    def latency(self, percentile: float) -> float:
        """Seconds within which so many per cent of the exposures are published."""
        return float(np.percentile(self.latencies, percentile))

    @property
    def late(self) -> float:
        """Fraction of the exposures that miss the deadline."""
        return float(np.mean(self.latencies > self.survey.deadline))

    def figures(self) -> dict[str, Any]:
        """All figures, for JSON."""
        return {
            "survey": asdict(self.survey),
            "profile": asdict(self.profile),
            **asdict(self.fleet),
            "cores": self.cores,
            "memory_bytes": self.memory,
            "utilisation": self.utilisation,
            "bytes_per_second": self.bandwidth,
            "burst_bytes_per_second": self.burst_bandwidth,
            "night_bytes": self.night_bytes,
            "late_fraction": self.late,
            "latency_seconds": {
                f"p{percentile:g}": self.latency(percentile) for percentile in (50, 90, 95, 99, 99.9, 100)
            },
        }


def make_plan(
    survey: Survey,
    profile: ServiceProfile,
    *,
    cores_per_replica: int = 16,
    min_replicas: int = 2,
    max_utilisation: float = 0.8,
    percentile: float = 99.0,
    replication: int = 3,
    faults: Faults | None = None,
    workers: int | None = None,
    seed: int = 0,
) -> Plan:
    """Find the fewest workers with which the percentile of the latency meets the deadline.

    Parameters
    ----------
    cores_per_replica
        Largest number of cores of one service, its coordinator's included; at least 2.
    min_replicas
        Fewest services: with two, one goes on when the other's machine is lost.
    max_utilisation
        Largest fraction of the workers' time in use: the rest is for crowded fields and for catching up.
    percentile
        Per cent of the exposures that must meet the deadline, above 0 and below 100.
    workers
        Take so many in all instead of searching.

    Raises
    ------
    UnreachableDeadlineError
        When even a worker for each detector's exposure is not enough.
    """

    def plan(count: int, exposures: int) -> Plan:
        replicas = max(-(-count // (cores_per_replica - 1)), min_replicas)
        fleet = Fleet(replicas, -(-count // replicas), replicas * PARTITIONS_PER_REPLICA)
        latencies = simulate_night(survey, fleet, profile, exposures=exposures, faults=faults, seed=seed)
        return Plan(survey, profile, fleet, latencies, percentile, replication)

    whole = max(int(survey.cameras * survey.night * 3600.0 / survey.cadence), 1)
    if workers is not None:
        return plan(workers, whole)
    searched = min(whole, max(SEARCHED_EXPOSURES, 5000 // survey.detectors))

    def suffices(count: int) -> bool:
        tried = plan(count, searched)
        return tried.latency(percentile) <= survey.deadline and tried.utilisation <= max_utilisation

    most = 2 * max(survey.cameras * survey.detectors, min_replicas)
    if not suffices(most):
        largest = plan(most, searched)
        raise UnreachableDeadlineError(
            deadline=survey.deadline,
            percentile=percentile,
            latency=largest.latency(percentile),
            utilisation=largest.utilisation,
            announce=survey.announce_delay,
        )
    least = 0
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if suffices(middle) else (middle, most)
    found = plan(most, whole)
    while found.latency(percentile) > survey.deadline:
        most += 1
        found = plan(most, whole)
    return found
