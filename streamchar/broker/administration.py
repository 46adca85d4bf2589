"""Topics as clients see and change them: Metadata, creation, deletion, settings."""

from __future__ import annotations

from collections import Counter

from streamchar.broker.config import BrokerSettings
from streamchar.broker.errors import ErrorCode, RefusedError
from streamchar.broker.messages_admin import (
    ConfigResource,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
    CreateTopicsRequest,
    DeletedRecordsPartition,
    DeletedRecordsTopic,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DescribeConfigsRequest,
    DescribeConfigsResponse,
    DescribedConfig,
    DescribedResource,
    NewTopic,
    TopicError,
    TopicErrorCode,
    TopicErrorsResponse,
)
from streamchar.broker.messages_data import (
    MetadataBroker,
    MetadataPartition,
    MetadataRequest,
    MetadataResponse,
    MetadataTopic,
)
from streamchar.broker.messages_groups import FindCoordinatorRequest, FindCoordinatorResponse
from streamchar.broker.offsets import Offsets
from streamchar.broker.topics import Topic, Topics
from streamchar.frozen import frozen

NODE_ID = 1

_TOPIC_RESOURCE, _BROKER_RESOURCE = 2, 4
_DYNAMIC_TOPIC_CONFIG, _STATIC_BROKER_CONFIG, _DEFAULT_CONFIG = 1, 4, 5
_GROUP_COORDINATOR, _TRANSACTION_COORDINATOR = 0, 1


@frozen
class Node:
    """The one node of the cluster, as clients reach it."""

    cluster_id: str
    host: str
    port: int


class Administration:
    """Answers requests about the cluster and its topics."""

    def __init__(self, settings: BrokerSettings, topics: Topics, offsets: Offsets, node: Node) -> None:
        self._settings = settings
        self._topics = topics
        self._offsets = offsets
        self._node = node

    # the cluster

    def metadata(self, request: MetadataRequest, version: int) -> MetadataResponse:
        """Answer Metadata; topics that are asked for by name may be created."""
        everything = request.topics is None or (version == 0 and not request.topics)
        names = [topic.name for topic in self._topics] if everything else dict.fromkeys(request.topics or ())
        create = request.allow_auto_topic_creation and self._settings.auto_create_topics
        return MetadataResponse(
            brokers=[MetadataBroker(NODE_ID, self._node.host, self._node.port)],
            cluster_id=self._node.cluster_id,
            controller_id=NODE_ID,
            topics=[self._topic_metadata(name, create) for name in names],
        )

    def _topic_metadata(self, name: str, create: bool) -> MetadataTopic:
        topic = self._topics.get(name)
        if topic is None:
            try:
                topic = self._create_on_demand(name, create)
            except RefusedError as refusal:
                return MetadataTopic(refusal.error, name)
        partitions = [
            MetadataPartition(ErrorCode.NONE, partition.index, NODE_ID, [NODE_ID], [NODE_ID], [])
            for partition in topic.partitions
        ]
        return MetadataTopic(ErrorCode.NONE, name, partitions=partitions)

    def _create_on_demand(self, name: str, create: bool) -> Topic:
        if create:
            self._topics.create(name, -1, {})
        topic = self._topics.get(name)
        if topic is None:
            raise RefusedError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, name)
        return topic

    def find_coordinator(self, request: FindCoordinatorRequest) -> FindCoordinatorResponse:
        """Answer FindCoordinator: there is only one node."""
        if request.key_type not in (_GROUP_COORDINATOR, _TRANSACTION_COORDINATOR):
            return FindCoordinatorResponse(
                0, ErrorCode.INVALID_REQUEST, "unknown coordinator type", -1, "", -1
            )
        return FindCoordinatorResponse(0, ErrorCode.NONE, None, NODE_ID, self._node.host, self._node.port)

    # topics

    def create_topics(self, request: CreateTopicsRequest) -> TopicErrorsResponse:
        """Answer CreateTopics."""
        repeated = {name for name, count in Counter(t.name for t in request.topics).items() if count > 1}
        answers = []
        for new in request.topics:
            try:
                if new.name in repeated:
                    raise RefusedError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
                self._create(new, request.validate_only)
                answers.append(TopicError(new.name, ErrorCode.NONE, None))
            except RefusedError as refusal:
                answers.append(TopicError(new.name, refusal.error, str(refusal.values["reason"])))
        return TopicErrorsResponse(0, answers)

    def _create(self, new: NewTopic, dry_run: bool) -> None:
        count = new.num_partitions
        if new.assignments:
            if count != -1 or new.replication_factor != -1:
                raise RefusedError(
                    ErrorCode.INVALID_REQUEST, "assignments exclude counts of partitions and replicas"
                )
            indices = sorted(assignment.partition for assignment in new.assignments)
            here = all(assignment.replicas == [NODE_ID] for assignment in new.assignments)
            if not here or indices != list(range(len(indices))):
                raise RefusedError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, "there is only one node")
            count = len(indices)
        elif new.replication_factor not in (-1, 1):
            raise self._bad_replication(new)
        configs = {entry.name: entry.value for entry in new.configs}
        self._topics.create(new.name, count, configs, dry_run=dry_run)

    def _bad_replication(self, new: NewTopic) -> RefusedError:
        if self._topics.get(new.name) is not None:
            return RefusedError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{new.name}' already exists.")
        return RefusedError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"{new.replication_factor} replicas wanted, there is one node",
        )

    def delete_topics(self, request: DeleteTopicsRequest) -> DeleteTopicsResponse:
        """Answer DeleteTopics."""
        answers = []
        for name in request.topics:
            try:
                self._topics.delete(name)
                self._offsets.delete_topic(name)
                answers.append(TopicErrorCode(name, ErrorCode.NONE))
            except RefusedError as refusal:
                answers.append(TopicErrorCode(name, refusal.error))
        return DeleteTopicsResponse(0, answers)

    def create_partitions(self, request: CreatePartitionsRequest) -> TopicErrorsResponse:
        """Answer CreatePartitions."""
        answers = []
        for wanted in request.topics:
            try:
                self._extend(wanted, request.validate_only)
                answers.append(TopicError(wanted.name, ErrorCode.NONE, None))
            except RefusedError as refusal:
                answers.append(TopicError(wanted.name, refusal.error, str(refusal.values["reason"])))
        return TopicErrorsResponse(0, answers)

    def _extend(self, wanted: CreatePartitionsTopic, dry_run: bool) -> None:
        topic, assignments = self._topics.get(wanted.name), wanted.partitions.assignments
        added = wanted.partitions.count - len(topic.partitions) if topic else 0
        if assignments is not None and added > 0 and assignments != [[NODE_ID]] * added:
            raise RefusedError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, "there is only one node")
        self._topics.extend(wanted.name, wanted.partitions.count, dry_run=dry_run)

    def delete_records(self, request: DeleteRecordsRequest) -> DeleteRecordsResponse:
        """Answer DeleteRecords."""
        answers = []
        for topic in request.topics:
            partitions = []
            for wanted in topic.partitions:
                try:
                    low = self._topics.delete_records(topic.name, wanted.index, wanted.offset)
                    partitions.append(DeletedRecordsPartition(wanted.index, low, ErrorCode.NONE))
                except RefusedError as refusal:
                    partitions.append(DeletedRecordsPartition(wanted.index, -1, refusal.error))
            answers.append(DeletedRecordsTopic(topic.name, partitions))
        return DeleteRecordsResponse(0, answers)

    # settings

    def describe_configs(self, request: DescribeConfigsRequest) -> DescribeConfigsResponse:
        """Answer DescribeConfigs."""
        return DescribeConfigsResponse(0, [self._describe(resource) for resource in request.resources])

    def _describe(self, resource: ConfigResource) -> DescribedResource:
        kind, name = resource.resource_type, resource.resource_name
        try:
            configs = self._configs(kind, name)
        except RefusedError as refusal:
            return DescribedResource(refusal.error, str(refusal.values["reason"]), kind, name, [])
        wanted = resource.config_names
        chosen = [config for config in configs if wanted is None or config.name in wanted]
        return DescribedResource(ErrorCode.NONE, None, kind, name, chosen)

    def _configs(self, kind: int, name: str) -> list[DescribedConfig]:
        if kind == _TOPIC_RESOURCE:
            return self._topic_configs(name)
        if kind == _BROKER_RESOURCE and name == str(NODE_ID):
            values = self._settings.model_dump(mode="json", exclude={"data_dir"})
            return [
                DescribedConfig(key.replace("_", "."), str(value), True, _STATIC_BROKER_CONFIG)
                for key, value in values.items()
            ]
        raise RefusedError(ErrorCode.INVALID_REQUEST, f"resource type {kind} '{name}' has no settings here")

    def _topic_configs(self, name: str) -> list[DescribedConfig]:
        topic = self._topics.get(name)
        if topic is None:
            raise RefusedError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "")
        return [
            DescribedConfig(
                key, config.value, False, _DYNAMIC_TOPIC_CONFIG if config.overridden else _DEFAULT_CONFIG
            )
            for key, config in topic.config.describe().items()
        ]
