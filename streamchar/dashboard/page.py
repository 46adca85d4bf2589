"""The live page as a whole: subscriber, watch over services, feed and server, started and stopped together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from streamchar.dashboard.feed import Feed
from streamchar.dashboard.server import PageServer
from streamchar.dashboard.services import ServiceWatch
from streamchar.dashboard.subscriber import Subscriber
from streamchar.dashboard.visits import Visits
from streamchar.messages import TopicNames
from streamchar.monitor.page_settings import DashboardSettings
from streamchar.stream.settings import KafkaSettings

_HOUR = 3600.0


class LivePage:
    """Reads the topics and serves the page.

    Parameters
    ----------
    settings
        Of the page.
    kafka, topics
        Where to read.

    Attributes
    ----------
    visits
        The night.
    server
        Its port and address are known once the page is served.
    """

    def __init__(self, settings: DashboardSettings, kafka: KafkaSettings, topics: TopicNames) -> None:
        self.visits = Visits(gap=settings.gap * _HOUR, span=settings.span * _HOUR)
        self._subscriber = Subscriber(
            kafka, topics, self.visits, span=settings.span * _HOUR, changed=self._mark
        )
        self._services = ServiceWatch(settings.metrics, self._mark)
        self._feed = Feed(
            self.visits, lambda: self._subscriber.contact, lambda: self._services.states, settings.cameras
        )
        self.server = PageServer(settings, self.visits, self._feed)

    def _mark(self) -> None:
        self._feed.mark()

    async def run(self, ready: Callable[[str], None] = lambda _: None) -> None:
        """Serve until cancelled.

        Parameters
        ----------
        ready
            Called with the page's address as soon as it can be opened.

        Raises
        ------
        PageListenError
            The port cannot be opened.
        ConfigurationError
            The settings of the connection to Kafka are wrong.
        """
        self._feed.refresh()
        await self.server.start()
        tasks = [asyncio.ensure_future(part.run()) for part in (self._subscriber, self._services, self._feed)]
        try:
            ready(self.server.address)
            await asyncio.gather(*tasks)
            await asyncio.Event().wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.server.stop()
