"""One figure for each truth scene (``make figures``): what the characterization leaves behind, against truth.

The exposure; what is left after subtracting the PSF stars, whole and around the brightest of them; PSF stars with their
residuals; measured minus true ellipticity; background minus true sky.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from streamchar.characterize import CharacterizationResult, CharacterizeImage, drawing
from streamchar.characterize.config import CharacterizeImageConfig
from streamchar.characterize.psf.pixel_basis import adaptive_moments
from streamchar.image import Exposure
from streamchar.telescope import SCENES, named_scene, simulate_exposure
from streamchar.telescope.truth import Truth

FOLDER = Path(__file__).parents[2] / ".cache" / "figures"
CUTOUT = 320
CELLS = 8
"""Cells along each axis in whose centres PSFs are compared."""


def main(words: list[str] | None = None) -> None:
    """Draw the figures of the scenes named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "scenes", nargs="*", metavar="scene", help=f"of {', '.join(SCENES)}; all when omitted"
    )
    parser.add_argument("--size", type=int, default=2048, help="width and height of the exposure in pixels")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--preset", choices=("best", "reference"), default="best")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of the figures")
    arguments = parser.parse_args(words)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.scenes or SCENES:
        simulated = simulate_exposure(named_scene(name, size=arguments.size), arguments.seed)
        config = CharacterizeImageConfig.preset(arguments.preset)
        result = CharacterizeImage(config).run(simulated.exposure)
        path = arguments.output / f"{name}-{arguments.size}-{arguments.seed}-{arguments.preset}.png"
        draw_scene(name, result, simulated.truth, path)
        print(f"{path}  {figures(result, simulated.truth)}", flush=True)


def draw_scene(name: str, result: CharacterizationResult, truth: Truth, path: Path) -> None:
    """Write the figure of one scene."""
    exposure, measurement, catalog = result.exposure, result.psf_measurement, result.catalog
    figure = drawing.new_figure(19, 12)
    (image, residual, close), (stamps, whiskers, background) = figure.subplots(2, 3)
    figure.suptitle(f"{name}: {SCENES[name]}; {result.outcome}; {figures(result, truth)}", fontsize=10)
    scale, unit = exposure.pixel_scale, exposure.observation.unit
    drawing.draw_image(image, exposure.image, pixel_scale=scale, unit=unit)
    sky = truth.sky_image()
    limit = max(0.1, _limit(result, sky, truth.sky_sigma))
    drawing.draw_difference(
        background,
        (result.background.image() - sky) / truth.sky_sigma,
        label="background − true sky (sky σ)",
        limit=limit,
    )
    if measurement is not None and catalog is not None:
        drawing.draw_psf_stars(image, measurement.stars)
        left = without_stars(exposure, result)
        # Bad columns and saturated cores are no residuals.
        left[(exposure.mask & exposure.bits("BAD", "SAT")) != 0] = np.nan
        drawing.draw_image(residual, left, pixel_scale=scale, unit=unit)
        residual.set_title("PSF stars subtracted", loc="left", fontsize=9)
        x0, y0 = _around_brightest(result)
        drawing.draw_difference(
            close,
            (left / np.sqrt(exposure.variance))[y0 : y0 + CUTOUT, x0 : x0 + CUTOUT],
            origin=(x0, y0),
            label="PSF stars subtracted (σ of the pixel)",
            limit=5.0,
        )
        drawing.draw_star_stamps(stamps, drawing.star_stamps(exposure, measurement))
        drawing.draw_whiskers(
            whiskers, shape_errors(result, truth)[0], label="measured − true", color=drawing.VERMILLION
        )
    figure.savefig(path)


def figures(result: CharacterizationResult, truth: Truth) -> str:
    """Return what the figure shows, in numbers."""
    if result.psf_measurement is None:
        return f"no PSF: {result.error}"
    stars = result.psf_measurement.stars
    error, size = shape_errors(result, truth)
    difference = (result.background.image() - truth.sky_image()) / truth.sky_sigma
    return (
        f"{int(stars.used.sum())} used and {int(stars.reserved.sum())} reserved stars, "
        f"degree {result.psf_measurement.order}, PSF size {100 * size.mean():+.2f}% ± {100 * size.std():.2f}%, "
        f"ellipticity rms {1e4 * error.rms:.0f}e-4, "
        f"background {difference.mean():+.3f} ± {difference.std():.3f} σ"
    )


def shape_errors(result: CharacterizationResult, truth: Truth) -> tuple[drawing.Whiskers, np.ndarray]:
    """Ellipticity of the PSF model minus the true one, and its relative error of size, at the centres of cells.

    Both PSFs are drawn centred on a pixel: moments of a sharp PSF depend on where between the pixels it is.
    """
    height, width = result.exposure.shape
    step = (np.arange(CELLS) + 0.5) / CELLS
    x, y = (axis.ravel() for axis in np.meshgrid(step * width - 0.5, step * height - 0.5))
    model = result.psf_measurement.psf.shapes(x, y)
    real = adaptive_moments(truth.psf.kernel_images(x, y))
    whiskers = drawing.Whiskers(x, y, model.e1 - real.e1, model.e2 - real.e2, result.exposure.shape)
    return whiskers, model.determinant_radius / real.determinant_radius - 1.0


def without_stars(exposure: Exposure, result: CharacterizationResult) -> np.ndarray:
    """Return the image less the model of every used and reserved star, scaled to its PSF flux."""
    stars, catalog = result.psf_measurement.stars, result.catalog
    chosen = stars.index[stars.used | stars.reserved]
    flux = catalog["base_PsfFlux_instFlux"][chosen].copy()
    correction = catalog["base_PsfFlux_apCorr"][chosen]
    # The flux is that of the whole star; the model was fitted before the aperture correction.
    corrected = np.isfinite(correction) & (correction > 0)
    flux[corrected] /= correction[corrected]
    left = exposure.image.copy()
    height, width = left.shape
    for star in np.flatnonzero(np.isfinite(flux)):
        row = chosen[star]
        stamp = exposure.psf.images(catalog["slot_Centroid_x"][row], catalog["slot_Centroid_y"][row])
        model, x0, y0 = stamp.images[0], int(stamp.x0[0]), int(stamp.y0[0])
        rows, columns = model.shape
        top, bottom = max(y0, 0), min(y0 + rows, height)
        first, last = max(x0, 0), min(x0 + columns, width)
        left[top:bottom, first:last] -= flux[star] * model[top - y0 : bottom - y0, first - x0 : last - x0]
    return left


def _limit(result: CharacterizationResult, sky: np.ndarray, sigma: float) -> float:
    return float(np.quantile(np.abs(result.background.image() - sky), 0.99)) / sigma


def _around_brightest(result: CharacterizationResult) -> tuple[int, int]:
    stars = result.psf_measurement.stars
    height, width = result.exposure.shape
    chosen = np.flatnonzero((stars.used | stars.reserved) & np.isfinite(stars.flux))
    if not len(chosen):
        return 0, 0
    best = chosen[np.argmax(stars.flux[chosen])]
    return tuple(
        int(np.clip(position - CUTOUT / 2, 0, max(0, length - CUTOUT)))
        for position, length in ((stars.x[best], width), (stars.y[best], height))
    )


if __name__ == "__main__":
    main()
