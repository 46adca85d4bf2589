"""How much a survey needs: a simulation of its night through the service, from measured times."""

from streamchar.planning.capacity import Plan, make_plan
from streamchar.planning.errors import ProfileError, UnreachableDeadlineError
from streamchar.planning.profile import ServiceProfile, read_profile
from streamchar.planning.simulation import Faults, Fleet, simulate_night
from streamchar.planning.surveys import SURVEYS, Survey

__all__ = [
    "SURVEYS",
    "Faults",
    "Fleet",
    "Plan",
    "ProfileError",
    "ServiceProfile",
    "Survey",
    "UnreachableDeadlineError",
    "make_plan",
    "read_profile",
    "simulate_night",
]
