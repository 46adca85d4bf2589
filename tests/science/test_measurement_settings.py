"""The plugin registry, settings, slots and columns of measurement."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from streamchar.characterize.catalog import Column, Schema, SourceCatalog
from streamchar.characterize.measurement import (
    PLUGINS,
    MeasurementConfig,
    Plugin,
    SingleFrameMeasurement,
    Slots,
    find_plugin,
)
from streamchar.characterize.measurement.config import DEFAULT_PLUGINS
from streamchar.errors import ConfigurationError
from tests.measurement_scenes import star_field

RUN = Path(__file__).parents[1] / "data" / "reference-runs" / "sdss-6377-4-0399-r"


def reference_columns():
    """Column names of the reference's catalogue, aliases included; names cut short by FITS (with ~) left out."""
    with fits.open(RUN / "catalog.fits") as file:
        names = file[1].columns.names
    return [name for name in names if not name.startswith("oracle_") and "~" not in name]


def test_columns_are_the_reference_s_own_in_its_order():
    names = reference_columns()
    task = SingleFrameMeasurement(MeasurementConfig(names=DEFAULT_PLUGINS))
    ours = [column.name for column in task.columns]
    schema = Schema(task.columns, task.aliases)
    own = [name for name in names if name == schema.resolve(name)]
    first, last = own.index("base_SdssCentroid_x"), own.index("base_InvalidPsf_flag")
    assert ours == own[first : last + 1]


def test_every_alias_of_the_reference_resolves():
    names = reference_columns()
    task = SingleFrameMeasurement()
    schema = Schema(task.columns, task.aliases)
    wanted = [n for n in names if ("slot_" in n or "badCentroid" in n or "badShape" in n)]
    wanted = [n for n in wanted if not n.startswith("apcorr") and not n.endswith(("_apCorr", "_apCorrErr"))]
    assert len(wanted) > 50
    assert [name for name in wanted if name not in schema] == []


def test_plugins_run_centroid_first_then_by_order_and_name():
    assert [plugin.name for plugin in SingleFrameMeasurement().plugins] == [
        "base_SdssCentroid",
        "ext_shapeHSM_HsmSourceMoments",
        "base_CircularApertureFlux",
        "base_CompensatedTophatFlux",
        "base_GaussianFlux",
        "base_PixelFlags",
        "base_PsfFlux",
        "ext_pointSource_Broadening",
    ]


@pytest.mark.parametrize("name", PLUGINS)
def test_every_registered_plugin_names_itself_and_documents_its_columns(name):
    kind = find_plugin(name)
    assert kind.name == name
    assert kind.__doc__
    plugin = kind(kind.config_class(), Slots())
    for column in plugin.columns:
        assert column.doc
        assert column.name.startswith(name) or name in ("base_SkyCoord", "base_Jacobian")
    Schema(plugin.columns)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"names": ["base_SdssCentriod"]}, "did you mean 'base_SdssCentroid'"),
        ({"plugins": {"base_PsfFlx": {}}}, "did you mean 'base_PsfFlux'"),
        ({"plugins": {"base_PsfFlux": {"bad_mask_plane": []}}}, "did you mean 'bad_mask_planes'"),
        ({"plugins": {"base_SdssCentroid": {"binmax": 0}}}, "binmax"),
        ({"plugins": {"base_CircularApertureFlux": {"radii": [3.0, 3.01]}}}, "first decimal"),
        ({"plugins": {"base_CompensatedTophatFlux": {"inner_scale": 2.0}}}, "outer_scale"),
        ({"slots": {"centroid": "base_NaiveCentroid"}}, "slots.centroid"),
        ({"slots": {"psf_flux": "base_Psf"}}, "slots.psf_flux"),
        ({"names": ["base_SdssCentroid", "base_SdssCentroid"]}, "listed twice"),
        ({"names": ["no.such.module:Plugin"]}, "cannot be loaded"),
        ({"names": ["json:JSONDecoder"]}, "not a subclass"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        MeasurementConfig.model_validate(settings)


def test_slots_can_be_left_unused():
    slots = Slots(model_flux="", gaussian_flux="", shape="")
    config = MeasurementConfig(
        names=("base_SdssCentroid", "base_PsfFlux", "base_CircularApertureFlux"), slots=slots
    )
    task = SingleFrameMeasurement(config)
    assert "slot_Shape" not in task.aliases
    assert task.aliases["slot_PsfFlux"] == "base_PsfFlux"


class PeakPixel(Plugin):
    """A plugin as a user would write it: the value of the centre's pixel, source by source."""

    name = "example_PeakPixel"

    @property
    def columns(self):
        return (Column(f"{self.name}_value", "<f8", "count", "pixel at the centroid"),)

    def measure(self, context):
        centres = context.centres()
        for i in range(len(context)):
            with context.shown(i) as image:
                pixel = image[int(centres.y[i] + 0.5), int(centres.x[i] + 0.5)]
            context.catalog[f"{self.name}_value"][i] = pixel


def test_a_new_plugin_is_one_class_and_one_line(monkeypatch):
    module = types.ModuleType("example_plugins")
    module.PeakPixel = PeakPixel
    monkeypatch.setitem(sys.modules, "example_plugins", module)
    names = (*MeasurementConfig().names, "example_plugins:PeakPixel")
    task = SingleFrameMeasurement(MeasurementConfig(names=names))
    exposure, footprints, x, y = star_field(4)
    catalog = SourceCatalog(Schema(task.columns, task.aliases), 4, footprints)
    before = exposure.image.copy()
    task.run(catalog, exposure)
    pixels = before[np.floor(y + 0.5).astype(int), np.floor(x + 0.5).astype(int)]
    np.testing.assert_array_equal(catalog["example_PeakPixel_value"], pixels)
    np.testing.assert_array_equal(exposure.image, before)


def test_overrides_reach_the_plugins():
    config = MeasurementConfig().with_overrides("plugins.base_CircularApertureFlux.radii=[5, 12]")
    task = SingleFrameMeasurement(config)
    schema = Schema(task.columns, task.aliases)
    assert "base_CircularApertureFlux_5_0_instFlux" in schema
    assert "base_CircularApertureFlux_70_0_instFlux" not in schema
