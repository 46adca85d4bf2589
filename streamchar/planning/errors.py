"""Why there is no plan."""

from streamchar.errors import StreamcharError


class ProfileError(StreamcharError):
    """A measured profile cannot be read."""

    code = "profile"
    template = "{path}: {detail}; `make bench` writes .cache/bench/report.json"


class UnreachableDeadlineError(StreamcharError):
    """No number of workers meets the deadline."""

    code = "unreachable_deadline"
    template = (
        "no number of workers meets {deadline:g} s: with two workers for each detector, busy {utilisation:.0%} of the time, "
        "{percentile:g} % of the exposures take up to {latency:.1f} s, of which {announce:g} s pass before the announcement; "
        "a larger deadline or a faster machine is needed"
    )
