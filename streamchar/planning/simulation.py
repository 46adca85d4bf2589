"""The night as a simulation of discrete events: arrivals in bursts, partitions, replicas, workers, kills."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from streamchar.frozen import frozen
from streamchar.planning.profile import ServiceProfile
from streamchar.planning.surveys import Survey

Array = NDArray[np.float64]


@frozen
class Fleet:
    """What serves the night.

    Attributes
    ----------
    replicas
        Services of one consumer group.
    workers
        Worker processes of each.
    partitions
        Of the input topic, dealt out evenly to the replicas.
    """

    replicas: int
    workers: int
    partitions: int


@frozen
class Faults:
    """What goes wrong.

    Attributes
    ----------
    kills_per_worker_hour
        Workers killed while they work (out of memory, crashes).
    restart
        Seconds until the exposure runs again.
    """

    kills_per_worker_hour: float = 0.0
    restart: float = 1.0


def simulate_night(
    survey: Survey,
    fleet: Fleet,
    profile: ServiceProfile,
    *,
    exposures: int,
    faults: Faults | None = None,
    seed: int = 0,
) -> Array:
    """Latencies of a night, from the shutter's closing to the published products.

    An event goes to a random partition, as keys are hashed, and with it to one replica, whose free worker takes the oldest
    waiting event; a service finishes its events in any order. An exposure whose worker is killed starts anew.

    Parameters
    ----------
    exposures
        Exposures of all cameras together.

    Returns
    -------
    ndarray
        float64 (exposures x detectors), seconds, in the order of arrival.
    """
    random = np.random.default_rng(seed)
    shutter, arrival = _arrivals(survey, exposures, random)
    service = profile.draw(survey.megapixels, len(arrival), random)
    service += _lost_time(service, faults or Faults(), random)
    replica = random.integers(0, fleet.partitions, len(arrival)) % fleet.replicas
    finished = np.empty_like(arrival)
    for number in range(fleet.replicas):
        mine = np.flatnonzero(replica == number)
        finished[mine] = _served(arrival[mine], service[mine], fleet.workers)
    return np.asarray(finished + profile.overhead - shutter)


def _arrivals(survey: Survey, exposures: int, random: np.random.Generator) -> tuple[Array, Array]:
    """Shutter and announcement times of every detector's exposure, in the order of announcement."""
    camera = np.arange(exposures) % survey.cameras
    shutter = np.asarray((np.arange(exposures) // survey.cameras) * survey.cadence, np.float64)
    # Independent cameras have no common clock.
    shutter += random.uniform(0, survey.cadence, survey.cameras)[camera]
    shutter = np.asarray(np.repeat(shutter, survey.detectors), np.float64)
    arrival: Array = shutter + survey.announce_delay + random.uniform(0, survey.announce_spread, len(shutter))
    order = np.argsort(arrival, kind="stable")
    return shutter[order], arrival[order]


def _lost_time(service: Array, faults: Faults, random: np.random.Generator) -> Array:
    """Seconds that killed attempts add: what was done, and the restart."""
    killed = random.uniform(size=len(service)) < faults.kills_per_worker_hour / 3600.0 * service
    return np.where(killed, random.uniform(size=len(service)) * service + faults.restart, 0.0)


def _served(arrival: Array, service: Array, workers: int) -> Array:
    free = [0.0] * workers
    finished = np.empty_like(arrival)
    for i, (come, takes) in enumerate(zip(arrival.tolist(), service.tolist(), strict=True)):
        start = max(heapq.heappop(free), come)
        finished[i] = start + takes
        heapq.heappush(free, start + takes)
    return finished
