"""What keeps a subscription from beginning, each with what to do about it."""

from __future__ import annotations

from streamchar.errors import StreamcharError


class SubscriptionError(StreamcharError):
    """A subscription cannot begin."""

    code = "subscription"


class AddressError(SubscriptionError):
    """The address of the broker is none."""

    code = "broker_address"
    template = (
        "'{bootstrap}' is not the address of a broker ({detail}); write host:port, for example localhost:9092, "
        "several separated by commas"
    )


class UnreachableError(SubscriptionError):
    """No broker answers."""

    code = "broker_unreachable"
    template = (
        "no Kafka broker answers at {bootstrap} ({detail}); is it running, and is this where it listens? "
        "A broker for one machine is started by: streamchar broker"
    )


class RefusedError(SubscriptionError):
    """The broker does not let the subscriber in; trying again will not help."""

    code = "access_refused"
    template = (
        "no access to the Kafka broker at {bootstrap}: {detail}; user, password and certificates go into "
        "consumer_options={{'security_protocol': ..., 'sasl_plain_username': ...}}, on the command line into "
        "-c kafka.security_protocol=... and the like"
    )


class ForbiddenError(SubscriptionError):
    """The broker lets the subscriber in, but not read."""

    code = "access_forbidden"
    template = (
        "the Kafka broker at {bootstrap} forbids it: {detail}; the user needs READ on the topics {topics} and on the "
        "group '{group}'"
    )


class TopicsMissingError(SubscriptionError):
    """Nothing has been published yet under these names."""

    code = "topics_missing"
    template = (
        "{bootstrap} has no topics {topics}: a service creates them when it starts; if it runs, its topics have "
        "another prefix (topics=TopicNames(prefix), or --prefix on the command line)"
    )
