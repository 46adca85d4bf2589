"""The base of every task: a name in a tree, a configuration, timers and metadata."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import Field

from streamchar.configuration import Configuration
from streamchar.errors import ConfigurationError
from streamchar.frozen import frozen

C = TypeVar("C", bound=Configuration)
T = TypeVar("T", bound="Task[Any]")
Metadata = dict[str, Any]


@frozen
class Timing:
    """How long one run of a timed step took.

    Attributes
    ----------
    name
        Full name of the task and the step.
    cpu
        CPU seconds of the process (user and system).
    wall
        Elapsed seconds.
    """

    name: str
    cpu: float
    wall: float


class Task(Generic[C]):
    """A step of the characterization with its configuration and its place in the task tree.

    Parameters
    ----------
    config
        Settings; the defaults of ``config_class`` when omitted.
    name
        Name in the tree; ``default_name`` when omitted.
    parent
        Task that runs this one; timings and metadata are found through it.
    """

    config_class: ClassVar[type[Configuration]]
    default_name: ClassVar[str]
    can_multiprocess: ClassVar[bool] = True
    """Whether several processes may run the task side by side: tasks share nothing."""

    def __init__(
        self, config: C | None = None, *, name: str | None = None, parent: Task[Any] | None = None
    ) -> None:
        self.config: C = config if config is not None else self.config_class()  # type: ignore[assignment]
        self.metadata: Metadata = {}
        self._name = name or self.default_name
        self._full_name: str = self._name if parent is None else f"{parent._full_name}.{self._name}"
        self._subtasks: dict[str, Task[Any]] = {}
        self._timings: list[Timing] = []

    @classmethod
    def make_field(cls, description: str) -> Any:
        """Declare the task's settings as a field of a configuration above it."""
        return Field(default_factory=cls.config_class, description=description)

    def make_subtask(self, kind: type[T], config: Configuration, name: str | None = None) -> T:
        """Build a task below this one in the tree, or the replacement that the configuration names for it.

        Raises
        ------
        ConfigurationError
            When the replacement cannot be loaded or is not a task of this kind.
        """
        task = self._replacement(kind, name or kind.default_name)(config, name=name, parent=self)
        self._subtasks[task.get_name()] = task
        return task

    def _replacement(self, kind: type[T], name: str) -> type[T]:
        path: str | None = getattr(self.config, "subtasks", {}).get(name)
        if path is None:
            return kind
        module, _, attribute = path.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigurationError.at(f"subtasks.{name}", f"'{path}' cannot be loaded: {error}") from error
        if not (isinstance(found, type) and issubclass(found, kind)):
            raise ConfigurationError.at(f"subtasks.{name}", f"'{path}' is not a subclass of {kind.__name__}")
        return found

    def get_name(self) -> str:
        """Return the task's own name."""
        return self._name

    def get_full_name(self) -> str:
        """Return the dotted name from the top of the tree."""
        return self._full_name

    def get_task_dict(self) -> dict[str, Task[Any]]:
        """Return this task and all tasks below it by full name."""
        found: dict[str, Task[Any]] = {self._full_name: self}
        for task in self._subtasks.values():
            found.update(task.get_task_dict())
        return found

    def get_full_metadata(self) -> dict[str, Metadata]:
        """Return figures and timings of this task and all tasks below it by full name.

        Timings are under ``<step>_cpu`` and ``<step>_wall``, one value for each run, in seconds.
        """
        return {name: task._with_timings() for name, task in self.get_task_dict().items()}

    def _with_timings(self) -> Metadata:
        metadata = dict(self.metadata)
        for timing in self._timings:
            step = timing.name.rsplit(".", 1)[-1]
            metadata.setdefault(f"{step}_cpu", []).append(timing.cpu)
            metadata.setdefault(f"{step}_wall", []).append(timing.wall)
        return metadata

    def empty_metadata(self) -> None:
        """Forget metadata and timings of this task and all tasks below it."""
        for task in self.get_task_dict().values():
            task.metadata.clear()
            task._timings.clear()

    def record(self, name: str, value: Any) -> None:
        """Append a value to the task's metadata; repeated runs make a list."""
        self.metadata.setdefault(name, []).append(value)

    @contextmanager
    def timer(self, step: str) -> Iterator[None]:
        """Time a step; see :meth:`timings`."""
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            name = f"{self._full_name}.{step}"
            self._timings.append(Timing(name, time.process_time() - cpu, time.perf_counter() - wall))

    def timings(self) -> list[Timing]:
        """Timings of this task and all tasks below it, in no particular order."""
        return [timing for task in self.get_task_dict().values() for timing in task._timings]
