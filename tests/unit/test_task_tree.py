"""The task tree: names, timings, metadata, replaceable subtasks, what is known before any pixel is read."""

import numpy as np
import pytest

from streamchar.characterize import CharacterizeImage, CharacterizeImageConfig
from streamchar.characterize.background import SubtractBackground
from streamchar.characterize.base import Task
from streamchar.characterize.display import POINTS
from streamchar.configuration import Configuration
from streamchar.errors import ConfigurationError
from streamchar.image import Exposure


class CountingBackground(SubtractBackground):
    """Counts its runs."""

    runs = 0

    def run(self, *arguments, **options):
        type(self).runs += 1
        return super().run(*arguments, **options)


@pytest.fixture(scope="module")
def exposure():
    rng = np.random.default_rng(4)
    image = rng.normal(500, 8, (256, 300)).astype(np.float32)
    y, x = np.indices(image.shape)
    for _ in range(25):
        cx, cy = rng.uniform(20, 235, 2)
        image += 40_000 / 22 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 1.9**2)).astype(np.float32)
    return Exposure.from_image(image, gain=8.0, read_noise=5.0)


def test_every_task_has_a_place_in_the_tree():
    task = CharacterizeImage()
    tree = task.get_task_dict()
    assert tree["characterize_image"] is task
    assert tree["characterize_image.repair"] is task.repair
    assert task.repair.get_name() == "repair"
    assert task.repair.get_full_name() == "characterize_image.repair"
    assert all(name.startswith("characterize_image") for name in tree)
    assert task.can_multiprocess


def test_the_columns_are_known_before_any_pixel():
    task = CharacterizeImage()
    schemas = task.get_schema_catalogs()
    assert [column.name for column in schemas["source_catalog"].schema] == [c.name for c in task.schema]
    assert task.get_all_schema_catalogs().keys() == schemas.keys()
    assert len(schemas["source_catalog"]) == 0
    assert all(column.doc for column in task.schema)


def test_memory_grows_with_the_pixels():
    task = CharacterizeImage()
    small, large = (task.get_resource_config(shape) for shape in ((1024, 1024), (4096, 4096)))
    assert small.cores == large.cores == 1
    assert 3 * 4 < (large.memory - small.memory) / (4096**2 - 1024**2) < 5 * 4
    assert large.memory < 450e6
    flattening = CharacterizeImage(CharacterizeImageConfig.preset("reference"))
    assert flattening.get_resource_config((4096, 4096)).memory == large.memory + 4 * 4096**2


def test_a_run_is_displayed_timed_and_described(exposure):
    seen = []
    task = CharacterizeImage(display=lambda point, result: seen.append((point, result.exposure.identity)))
    written = []
    result = task.run_quantum(exposure.copy, written.append)
    assert written == [result]
    rounds = [*POINTS[:4], *POINTS[:4], *POINTS[4:]]
    assert [point for point, _ in seen] == rounds
    metadata = task.get_full_metadata()
    assert len(metadata["characterize_image.detection"]["run_cpu"]) == 2
    assert metadata["characterize_image.repair"]["run_wall"][0] > 0
    assert {timing.name for timing in result.timings} >= {"characterize_image.run"}
    task.empty_metadata()
    assert not any(task.get_full_metadata().values())
    assert task.timings() == []


def test_a_subtask_is_replaced_by_configuration(exposure):
    path = f"{CountingBackground.__module__}:CountingBackground"
    config = CharacterizeImageConfig.preset(overrides=[f'subtasks.background="{path}"'])
    task = CharacterizeImage(config)
    before = type(task.background).runs
    task.run(exposure.copy())
    assert type(task.background).__name__ == "CountingBackground"
    assert type(task.background).runs == before + 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ('subtasks.backgrund="a:b"', "no subtask 'backgrund'"),
        ('subtasks.background="no_such_module:Task"', "cannot be loaded"),
        (
            'subtasks.background="streamchar.characterize.repair:Repair"',
            "not a subclass of SubtractBackground",
        ),
    ],
)
def test_a_wrong_replacement_is_refused(override, words):
    with pytest.raises(ConfigurationError, match=words):
        CharacterizeImage(CharacterizeImageConfig.preset(overrides=[override]))


def test_an_initial_background_is_honoured(exposure):
    first = CharacterizeImage().run(exposure.copy())
    models = first.background.models
    again = CharacterizeImage().run(first.exposure.copy(), background=type(first.background)(models))
    assert again.background.models[: len(models)] == models
    assert len(again.background) > len(models)


def test_a_field_carries_the_tasks_own_settings():
    class Above(Configuration):
        background: SubtractBackground.config_class = SubtractBackground.make_field("Sky.")

    assert Above().background == SubtractBackground.config_class()
    assert Above.model_fields["background"].description == "Sky."
    assert issubclass(SubtractBackground, Task)
