"""From a request's bytes to its answer: the one place that knows which handler serves which API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from streamchar.broker.administration import Administration
from streamchar.broker.apis import Api, ApiKey, RequestHeader
from streamchar.broker.durability import Durability
from streamchar.broker.errors import ErrorCode
from streamchar.broker.fetch import RecordReader
from streamchar.broker.groups import GroupCoordinator
from streamchar.broker.messages_admin import ApiVersionRange, ApiVersionsResponse
from streamchar.broker.produce import RecordAppender
from streamchar.broker.transactions import TransactionCoordinator
from streamchar.frozen import frozen


@frozen
class Caller:
    """Who sent a request."""

    header: RequestHeader
    host: str

    @property
    def client_id(self) -> str:
        """The name a client gives itself."""
        return self.header.client_id or ""


Handler = Callable[[Any, Caller], Any]
AsyncHandler = Callable[[Any, Caller], Awaitable[Any]]


class Dispatcher:
    """Serves decoded requests.

    Handlers that change something are answered only when the change is as durable as the settings promise.
    """

    def __init__(
        self,
        apis: dict[int, Api],
        administration: Administration,
        appender: RecordAppender,
        reader: RecordReader,
        groups: GroupCoordinator,
        transactions: TransactionCoordinator,
        durability: Durability,
    ) -> None:
        self.apis = apis
        self._durability = durability
        self._waiting: dict[int, AsyncHandler] = {
            ApiKey.FETCH: lambda request, _: reader.fetch(request),
            ApiKey.JOIN_GROUP: lambda request, caller: groups.join(request, caller.client_id, caller.host),
            ApiKey.SYNC_GROUP: lambda request, _: groups.sync(request),
            ApiKey.INIT_PRODUCER_ID: lambda request, _: transactions.init_producer_id(request),
            ApiKey.END_TXN: lambda request, _: transactions.end(request),
        }
        self._reading: dict[int, Handler] = {
            ApiKey.LIST_OFFSETS: lambda request, _: reader.list_offsets(request),
            ApiKey.OFFSET_FETCH: lambda request, _: groups.fetch_offsets(request),
            ApiKey.FIND_COORDINATOR: lambda request, _: administration.find_coordinator(request),
            ApiKey.HEARTBEAT: lambda request, _: groups.heartbeat(request),
            ApiKey.LEAVE_GROUP: lambda request, _: groups.leave(request),
            ApiKey.DESCRIBE_GROUPS: lambda request, _: groups.describe(request),
            ApiKey.LIST_GROUPS: lambda request, _: groups.list_groups(request),
            ApiKey.API_VERSIONS: lambda *_: self.api_versions(ErrorCode.NONE),
            ApiKey.DESCRIBE_CONFIGS: lambda request, _: administration.describe_configs(request),
        }
        self._changing: dict[int, Handler] = {
            ApiKey.PRODUCE: lambda request, _: appender.produce(request),
            ApiKey.METADATA: lambda request, caller: administration.metadata(
                request, caller.header.api_version
            ),
            ApiKey.OFFSET_COMMIT: lambda request, _: groups.commit(request),
            ApiKey.CREATE_TOPICS: lambda request, _: administration.create_topics(request),
            ApiKey.DELETE_TOPICS: lambda request, _: administration.delete_topics(request),
            ApiKey.DELETE_RECORDS: lambda request, _: administration.delete_records(request),
            ApiKey.CREATE_PARTITIONS: lambda request, _: administration.create_partitions(request),
            ApiKey.ADD_PARTITIONS_TO_TXN: lambda request, _: transactions.add_partitions(request),
            ApiKey.ADD_OFFSETS_TO_TXN: lambda request, _: transactions.add_offsets(request),
            ApiKey.TXN_OFFSET_COMMIT: lambda request, _: transactions.commit_offsets(request),
        }

    async def serve(self, request: object, caller: Caller) -> object | None:
        """Return the response, or ``None`` if the client wants none."""
        key = caller.header.api_key
        response: object | None
        if key in self._reading:
            response = self._reading[key](request, caller)
        elif key in self._changing:
            response = self._changing[key](request, caller)
            await self._durability.before_acknowledging()
        else:
            response = await self._waiting[key](request, caller)
            if key in (ApiKey.INIT_PRODUCER_ID, ApiKey.END_TXN):
                await self._durability.before_acknowledging()
        return response

    def api_versions(self, error: ErrorCode) -> ApiVersionsResponse:
        """Return what this broker speaks."""
        ranges = [ApiVersionRange(api.key, api.min_version, api.max_version) for api in self.apis.values()]
        return ApiVersionsResponse(error, ranges)
