"""The driver: every plugin measures every source, the others being replaced by noise."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.base import Task
from streamchar.characterize.catalog import Column, Schema, SourceCatalog, flag
from streamchar.characterize.footprints import Footprints
from streamchar.characterize.measurement.config import MeasurementConfig
from streamchar.characterize.measurement.context import Flags, MeasurementContext
from streamchar.characterize.measurement.neighbours import (
    NoiseReplacerConfig,
    neighbours_replaced,
    undisturbed,
)
from streamchar.characterize.measurement.plugin import Plugin
from streamchar.characterize.measurement.templates import PsfTemplates, nodes_over
from streamchar.image import Exposure
from streamchar.kernels import Scene

INVALID_PSF = "base_InvalidPsf_flag"

CHUNK = 512
"""Sources that all plugins measure before the next ones: few enough for their pixels and stamps to stay in the cache."""

FEW = 30
"""Sources beyond the number of nodes for which interpolating the PSF's shapes between nodes does not pay."""

Needed = tuple[Sequence[Plugin[Any]], ...]
"""Plugins that a set of columns needs: of sources without their neighbours, and undeblended."""


class SingleFrameMeasurement(Task[MeasurementConfig]):
    """Measure the sources of one exposure (reference: measurement.md section 1).

    It may run again on the same catalogue with another PSF: values are overwritten (NaN where the new measurement
    fails), flags stay raised unless their plugin clears them, the search for each centroid starts at the last one, and
    adaptive moments at the last ones.
    """

    config_class = MeasurementConfig
    default_name = "measurement"

    def __init__(self, config: MeasurementConfig | None = None, **place: Any) -> None:
        super().__init__(config, **place)
        self.plugins = self.config.make_plugins()
        self.undeblended = self.config.make_undeblended()
        self._schema = Schema((), self.aliases)
        self._chosen: dict[tuple[tuple[str, ...] | None, bool], Needed] = {}

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of all plugins, in the order they run."""
        measured = [column for plugin in (*self.plugins, *self.undeblended) for column in plugin.columns]
        return (*measured, flag(INVALID_PSF, "the PSF could not be evaluated at the source"))

    @property
    def aliases(self) -> dict[str, str]:
        """Slots, and the plugins' further names for the flags of the centroid and the shape."""
        slots = self.config.slots
        found = slots.aliases()
        if any(
            slots.psf_shape == plugin.name or slots.psf_shape.startswith(f"{plugin.name}_")
            for plugin in self.plugins
        ):
            found["slot_PsfShape"] = slots.psf_shape
        for plugin in (*self.plugins, *self.undeblended):
            found.update(plugin.aliases)
        return found

    def run(
        self,
        catalog: SourceCatalog,
        exposure: Exposure,
        *,
        exposure_id: int = 0,
        wanted: Flags | None = None,
        columns: Collection[str] | None = None,
        rough: bool = False,
    ) -> None:
        """Fill the columns of the catalogue.

        Parameters
        ----------
        catalog
            With footprints, one for each source; may have no source at all.
        exposure
            With a PSF. Its image is changed while the task runs and is restored at the end, also after an error.
        exposure_id
            Seeds the noise.
        wanted
            bool (n): measure only these sources, the others being hidden like all neighbours and their rows kept as they
            are; all when omitted.
        columns
            Run only the plugins of these columns, and those of centroid and shape, which the others need; all when omitted.
            These values serve to find the PSF and are measured again: neighbours leave the sky behind, without its noise.
        rough
            Only widths are wanted, for which positions need no refinement.

        Raises
        ------
        ValueError
            When the catalogue has no footprints or not one for each source.
        MissingPsfError
            When the exposure has no PSF.
        """
        footprints = catalog.footprints
        if footprints is None or len(footprints) != len(catalog):
            raise ValueError(f"{len(catalog)} sources need as many footprints, not {footprints!r}")
        self._describe(catalog, exposure_id)
        if len(catalog) == 0:
            return
        sources = catalog if wanted is None else catalog.take(wanted)
        numbers = np.arange(len(catalog)) if wanted is None else np.flatnonzero(wanted)
        with self.timer("run"):
            # Fluxes for the PSF's measurement only rank the stars.
            templates = self._templates(exposure, len(sources), compact=columns is not None)
            plugins, undeblended = self._needed(None if columns is None else tuple(columns), rough)
            calls = [plugin.measure for plugin in plugins]
            noise = self.config.noise_replacer if columns is None else None
            with self._scene(exposure, footprints, noise, exposure_id) as scene:
                self._measure(sources, numbers, exposure, scene, templates, calls, _radii(plugins))
            calls = [plugin.measure_restored for plugin in plugins if _looks_again(plugin)]
            calls += [plugin.measure for plugin in undeblended]
            if calls:
                scene = undisturbed(exposure.image)
                self._measure(sources, numbers, exposure, scene, templates, calls, _radii(undeblended))
            if wanted is not None:
                catalog.put(wanted, sources)
        self.record("sources", len(sources))

    def _measure(
        self,
        catalog: SourceCatalog,
        numbers: NDArray[np.int64],
        exposure: Exposure,
        scene: Scene,
        templates: PsfTemplates | None,
        calls: Sequence[Callable[[MeasurementContext], None]],
        radii: Collection[float],
    ) -> None:
        for first in range(0, len(catalog), CHUNK):
            end = min(first + CHUNK, len(catalog))
            if scene.footprints:
                scene.sources = numbers[first:end]
            sources = catalog.part(first, end)
            assert sources.footprints is not None
            context = MeasurementContext(
                exposure, sources, sources.footprints, scene, self.config.slots, templates, radii
            )
            # Pixels may hold anything: a result that is not finite is flagged, not warned about.
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                for measure in calls:
                    measure(context)
            sources[INVALID_PSF] |= context.invalid_psf

    def _needed(self, columns: tuple[str, ...] | None, rough: bool) -> Needed:
        """Those of the plugins, and of the undeblended ones, that fill the columns, the centroid or the shape."""
        if (columns, rough) not in self._chosen:
            groups = (self.plugins, self.undeblended)
            self._chosen[columns, rough] = tuple(self._choose(group, columns, rough) for group in groups)
        return self._chosen[columns, rough]

    def _choose(
        self, plugins: Sequence[Plugin[Any]], columns: tuple[str, ...] | None, rough: bool
    ) -> Sequence[Plugin[Any]]:
        if rough:
            plugins = [plugin.roughly() for plugin in plugins]
        if columns is None:
            return plugins
        slots = self.config.slots
        names = {slots.centroid, slots.shape, *map(self._schema.resolve, columns)}
        return [
            plugin
            for plugin in plugins
            if any(name == plugin.name or name.startswith(f"{plugin.name}_") for name in names)
        ]

    def _templates(self, exposure: Exposure, sources: int, *, compact: bool) -> PsfTemplates | None:
        if exposure.psf is None:
            return None
        rows, columns = nodes_over(exposure.shape)
        table = exposure.shape if sources > rows * columns + FEW else None
        return PsfTemplates.of(exposure.psf, self.config.psf_interpolation, table, compact=compact)

    @contextmanager
    def _scene(
        self, exposure: Exposure, footprints: Footprints, noise: NoiseReplacerConfig | None, exposure_id: int
    ) -> Iterator[Scene]:
        if not self.config.do_replace_with_noise:
            yield undisturbed(exposure.image)
            return
        with neighbours_replaced(exposure, footprints, noise, exposure_id) as scene:
            yield scene

    def _describe(self, catalog: SourceCatalog, exposure_id: int) -> None:
        for plugin in self.plugins:
            catalog.metadata.update(plugin.metadata)
        if not self.config.do_replace_with_noise:
            return
        noise = self.config.noise_replacer
        catalog.metadata["NOISE_SEED_MULTIPLIER"] = noise.noise_seed_multiplier
        catalog.metadata["NOISE_SOURCE"] = noise.noise_source
        catalog.metadata["NOISE_OFFSET"] = noise.noise_offset
        if exposure_id:
            catalog.metadata["NOISE_EXPOSURE_ID"] = exposure_id


def _looks_again(plugin: Plugin[Any]) -> bool:
    return type(plugin).measure_restored is not Plugin.measure_restored


def _radii(plugins: Sequence[Plugin[Any]]) -> set[float]:
    return {radius for plugin in plugins for radius in plugin.radii}
