"""The pulse of the brokers: asks them something small again and again, so that an outage shows without any events.

The Kafka client tells nobody that it has lost its brokers: it waits, and its polls return nothing.
"""

from __future__ import annotations

import asyncio
import logging

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streamchar.stream.contact import diagnose
from streamchar.stream.settings import KafkaSettings

log = logging.getLogger(__name__)

_LEAST_PATIENCE = 2.0
_MOST_TRIES_A_SECOND = 2.0


class Pulse:
    """Whether any broker answers.

    Parameters
    ----------
    kafka
        How to reach the brokers; they are asked once in each ``heartbeat_interval``.
    topic
        An existing topic to ask for.

    Attributes
    ----------
    problem
        Why no broker answers; empty as long as one does.
    last_answer
        Loop time of the latest answer.
    """

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._loop = asyncio.get_running_loop()
        self._admin: AIOKafkaAdminClient | None = None
        self._answering = asyncio.Event()
        self._answering.set()
        self.problem = ""
        self.last_answer = self._loop.time()

    @property
    def is_silent(self) -> bool:
        """Whether no broker answers."""
        return not self._answering.is_set()

    async def answering(self) -> None:
        """Wait until a broker answers."""
        await self._answering.wait()

    async def run(self) -> None:
        """Ask for ever."""
        try:
            while True:
                await self._feel()
                pause = self._kafka.heartbeat_interval
                await asyncio.sleep(min(pause, 1 / _MOST_TRIES_A_SECOND) if self.is_silent else pause)
        finally:
            await self._forget()

    async def _feel(self) -> None:
        problem = await self._ask()
        if problem:
            if not self.is_silent:
                log.warning("no broker answers: %s", problem)
            self._answering.clear()
        else:
            if self.is_silent:
                silence = self._loop.time() - self.last_answer
                log.warning("the brokers answer again after %.0f s", silence)
            self.last_answer = self._loop.time()
            self._answering.set()
        self.problem = problem

    async def _ask(self) -> str:
        """Ask over the present connection, or else over a new one; return what is wrong."""
        patience = max(_LEAST_PATIENCE, 2 * self._kafka.heartbeat_interval)
        try:
            async with asyncio.timeout(patience):
                if self._admin is not None and await self._is_answered(self._admin):
                    return ""
                await self._forget()
                admin = AIOKafkaAdminClient(**self._kafka.connection())
                self._admin = admin
                await admin.start()
        except TimeoutError:
            await self._forget()
            return f"silence for {patience:g} s"
        except KafkaError as error:
            await self._forget()
            return await self._explain(error, patience)
        return ""

    async def _is_answered(self, admin: AIOKafkaAdminClient) -> bool:
        try:
            await admin.describe_topics([self._topic])
        except KafkaError:
            return False
        return True

    async def _explain(self, error: KafkaError, patience: float) -> str:
        if not self.problem:
            try:
                async with asyncio.timeout(patience):
                    return str(await diagnose(self._kafka))
            except TimeoutError:
                return str(error)
        return self.problem

    async def _forget(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            await admin.close()
