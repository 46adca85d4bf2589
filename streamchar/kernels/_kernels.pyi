# Signatures of the compiled kernels; their docstrings are in the C++ sources.

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

_Bool: TypeAlias = NDArray[np.bool_]
_I32: TypeAlias = NDArray[np.int32]
_I64: TypeAlias = NDArray[np.int64]
_F32: TypeAlias = NDArray[np.float32]
_F64: TypeAlias = NDArray[np.float64]
_Real: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
_U8: TypeAlias = NDArray[np.uint8]

def paint_spans(plane: _I32, y: _I32, x0: _I32, x1: _I32, value: _I32) -> None: ...
def clear_spans(plane: _I32, y: _I32, x0: _I32, x1: _I32, bits: int) -> None: ...
def or_spans(plane: _I32, y: _I32, x0: _I32, x1: _I32, bits: int) -> None: ...
def sdss_shape(
    stamps: _Real,
    x: _F64,
    y: _F64,
    *,
    max_iter: int = 100,
    max_shift: float = 2.0,
    tol1: float = 1e-5,
    tol2: float = 1e-4,
    background: float = 0.0,
    negative: bool = False,
) -> tuple[_F64, _F64, _F64, _F64, _F64, _F64, _I32]: ...
def sdss_shape_image(
    image: _Real,
    x: _F64,
    y: _F64,
    *,
    max_iter: int = 100,
    max_shift: float = 2.0,
    tol1: float = 1e-5,
    tol2: float = 1e-4,
    background: float = 0.0,
    negative: bool = False,
) -> tuple[_F64, _F64, _F64, _F64, _F64, _F64, _I32]: ...
def smooth(plane: _F32, taps: _F32, out: _F32) -> None: ...
def smooth_at(plane: _F32, taps: _F32, x: _I32, y: _I32) -> _F32: ...
def detect(
    image: _F32,
    variance: _F32 | None,
    value: float,
    include: float,
    min_pixels: int,
    both: bool,
    taps: _F32 | None = None,
    image_taps: _F32 | None = None,
) -> tuple[tuple[_I32, _I32, _I32, _I64], tuple[_I32, _I32, _I32, _I64]]: ...
def find_peaks(
    image: _F32,
    y: _I32,
    x0: _I32,
    x1: _I32,
    start: _I64,
    negative: bool,
    taps: _F32 | None = None,
) -> tuple[_I32, _I32, _F32, _I64]: ...
def refresh_peaks(
    image: _F32,
    variance: _F32 | None,
    level: _F32,
    border: int,
    value: float,
    include: float,
    min_pixels: int,
    negative: bool,
    y: _I32,
    x0: _I32,
    x1: _I32,
    start: _I64,
    peak_x: _I32,
    peak_y: _I32,
    peak_value: _F32,
    peak_start: _I64,
    max_simple: int,
    taps: _F32 | None = None,
    image_taps: _F32 | None = None,
) -> tuple[_I32, _I32, _F32, _I64]: ...
def merge_peaks(
    peak_x: _I32, peak_y: _I32, peak_value: _F32, peak_start: _I64, owner: _I64, owners: int
) -> tuple[_I64, _I64]: ...
def grow_merging(
    y: _I32, x0: _I32, x1: _I32, start: _I64, height: int, width: int, half_widths: _I32
) -> tuple[_I32, _I32, _I32, _I64, _I64]: ...
def grow_each(
    y: _I32, x0: _I32, x1: _I32, start: _I64, height: int, width: int, half_widths: _I32
) -> tuple[_I32, _I32, _I32, _I64]: ...
def solve_least_squares(design: _F64, values: _F64, weights: _F64 | None = None) -> _F64: ...
def monomials(
    x: _F64, y: _F64, degree: int, x_offset: float, y_offset: float, x_scale: float, y_scale: float
) -> _F64: ...
def lanczos_resample(images: _F64, x: _F64, y: _F64, step: float, size: int, order: int) -> _F64: ...
def psf_draw(
    components: _F64, basis: _F64, dx: _F64, dy: _F64, size: int, scale: float, order: int
) -> _F64: ...
def psf_draw_transposed(
    stamps: _F64, basis: _F64, dx: _F64, dy: _F64, grid: int, scale: float, order: int
) -> _F64: ...
def psf_solve(
    misfit: _F64,
    weights: _F64,
    basis: _F64,
    dx: _F64,
    dy: _F64,
    root: _F64,
    pull: _F64,
    shrink: _F64,
    overlap: _F64,
    inverse: _F64,
    scale: float,
    order: int,
    iterations: int,
    converged: float,
) -> _F64: ...
def inverse_variance(
    model: _F64, usable: _Bool, flux: _F64, sky: _F64, slope: _F64, accuracy: float
) -> _F64: ...
def point_significance(residual: _F64, weights: _F64, fwhm: float) -> _F32: ...
def brightest_points(
    residual: _F64, weights: _F64, dx: _F64, dy: _F64, stars: _I64, fwhm: float, nearest: float
) -> _F64: ...
def star_pixels(
    image: _F32,
    variance: _F32,
    mask: _I32,
    x: _I64,
    y: _I64,
    within: _Bool,
    foreign: _Bool,
    bad: int,
    detected: int,
    margin: int,
) -> tuple[_F64, _Bool, _F64, _F64]: ...
def largest_in_windows(plane: _F32, x: _I64, y: _I64, half: int) -> _F32: ...
def stand_out(plane: _F32, taps: _F32, level: _F32, pit: float, half_widths: _I32) -> _Bool: ...
def star_modes(pixels: _F64, model: _F64, weights: _F64, dx: _F64, dy: _F64) -> tuple[_F64, _F64]: ...
def bin_statistics(
    image: _F32,
    mask: _I32,
    bits: int,
    y_edges: _I64,
    x_edges: _I64,
    quartiles: bool,
    rounds: int,
    sigmas: float,
) -> _F64: ...
def sample_statistics(
    values: _F32, mask: _I32 | None, bits: int, quartiles: bool, rounds: int, sigmas: float
) -> _F64: ...
def segment_statistics(values: _F32, start: _I64, quartiles: bool, rounds: int, sigmas: float) -> _F64: ...
def add_separable(plane: _F32, left: _F64, right: _F64, factor: float) -> None: ...
def add_grid(
    plane: _F32, grid: _F64, y_centres: _F64, x_centres: _F64, style: int, factor: float
) -> None: ...

class Scene:
    def __init__(
        self,
        image: _F32,
        y: _I32,
        x0: _I32,
        x1: _I32,
        start: _I64,
        noise: _F32,
        share: _F32 | None = None,
    ) -> None: ...
    @property
    def image(self) -> _F32: ...
    sources: _I64
    @property
    def footprints(self) -> int: ...
    def show(self, i: int) -> None: ...
    def hide(self, i: int) -> None: ...
    def hide_all(self) -> None: ...
    def show_all(self) -> None: ...

def sdss_shape_scene(
    scene: Scene,
    x: _F64,
    y: _F64,
    negative: _Bool,
    *,
    max_iter: int = 100,
    max_shift: float = 2.0,
    tol1: float = 1e-5,
    tol2: float = 1e-4,
    background: float = 0.0,
) -> tuple[_F64, _F64, _F64, _F64, _F64, _F64, _I32]: ...
def ellipse_pixels(
    scene: Scene,
    mask: _I32,
    bad: int,
    x: _F64,
    y: _F64,
    xx: _F64,
    yy: _F64,
    xy: _F64,
    inner: float,
    outer: float,
) -> tuple[_F32, _I64]: ...
def sdss_centroid(
    scene: Scene,
    variance: _F32,
    x: _F64,
    y: _F64,
    negative: _Bool,
    kernels: _F64,
    sigma: _F64,
    bin_max: int = 16,
    peak_min: float = -1.0,
    width_factor: float = 1.5,
    subtract_sky: bool = False,
) -> tuple[_F64, _I32]: ...
def hsm_moments(
    scene: Scene,
    mask: _I32,
    bad: int,
    boxes: _I32,
    x: _F64,
    y: _F64,
    sigma: _F64,
    circular: bool = False,
    before: _F64 | None = None,
) -> tuple[_F64, _Bool]: ...
def hsm_moments_of_stamps(stamps: _F64, sigma: _F64, circular: bool = False) -> tuple[_F64, _Bool]: ...
def gaussian_flux(scene: Scene, x: _F64, y: _F64, xx: _F64, yy: _F64, xy: _F64) -> _F64: ...
def higher_moments(scene: Scene, x: _F64, y: _F64, xx: _F64, yy: _F64, xy: _F64) -> _F64: ...
def blend_sums(scene: Scene, variance: _F32, x: _F64, y: _F64, xx: _F64, yy: _F64, xy: _F64) -> _F64: ...
def psf_broadening(
    scene: Scene,
    mask: _I32,
    bad: int,
    sources: _I64,
    stamps: _F64,
    x0: _I64,
    y0: _I64,
    width: _F64,
    reach: float,
    nearest: float,
    farthest: float,
    step: float,
) -> _F64: ...
def psf_fit(
    scene: Scene,
    variance: _F32,
    mask: _I32,
    bad: int,
    sources: _I64,
    stamps: _F64,
    x0: _I64,
    y0: _I64,
    position: bool = False,
    weighted: bool = True,
    reject: float = 0.0,
    tolerance: float = 0.0,
    reject_max: int = 0,
    spread: int = 0,
) -> tuple[_F64, _I32, _Bool]: ...
def psf_flux(
    scene: Scene, variance: _F32, mask: _I32, bad: int, stamps: _F64, x0: _I64, y0: _I64
) -> tuple[_F64, _I32, _Bool]: ...
def circular_apertures(
    scene: Scene, variance: _F32, x: _F64, y: _F64, radii: _F64
) -> tuple[_F64, _F64, _I32]: ...
def sinc_aperture(
    scene: Scene, variance: _F32, x: _F64, y: _F64, coefficients: _F32, radius: float
) -> tuple[_F64, _I32]: ...
def footprint_bits(mask: _I32, y: _I32, x0: _I32, x1: _I32, start: _I64) -> _I32: ...
def footprints_contain(y: _I32, x0: _I32, x1: _I32, start: _I64, px: _F64, py: _F64) -> _Bool: ...
def cut_windows(plane: _F32, x: _I64, y: _I64, half: int) -> _F32: ...
def window_bits(mask: _I32, x: _I64, y: _I64, half: int) -> tuple[_I32, _I32]: ...
def trusted_sums(
    image: _F32, variance: _F32, mask: _I32, bits: int, x: _I32, y: _I32, taps: _F64
) -> tuple[_F64, _F64, _F64]: ...
def split_footprints(
    image: _F32,
    variance: _F32,
    border: int,
    y: _I32,
    x0: _I32,
    x1: _I32,
    start: _I64,
    significance: float,
    prominence: float,
    contrast: float,
    image_taps: _F32 | None = None,
    variance_taps: _F32 | None = None,
) -> tuple[_I32, _I32, _I32, _I64, _I32, _I32, _F32, _I64]: ...
def find_cosmic_rays(
    image: _F32,
    mask: _I32,
    variance: _F32,
    background: float,
    horizontal: float,
    vertical: float,
    diagonal: float,
    min_sigma: float,
    noise_factor: float,
    min_counts: float,
    iterations: int,
    max_pixels: int,
    bad_bits: int,
    near_bits: int,
    unused_bits: int,
    cosmic_bit: int,
    offsets: _I32,
    thresholds: _F64,
    seed_reach: float,
    seed_noise_factor: float,
    growth_sigma: float,
    growth_noise_factor: float,
    filled_factor: float,
    candidates: _I64 | None = None,
) -> tuple[bool, int, _I32, _I32, _I32, _I64]: ...
def compact_spots(
    mask: _I32,
    variance: _F32,
    y: _I32,
    x: _I32,
    around: _F32,
    level: float,
    excluded: int,
    stars: _F32,
    sharpest: _F64,
    round_spots: _F32,
    long_spots: _F32,
    improvement: float,
    advantage: float,
    long_gain: float,
    growth: float,
    counts: float,
) -> tuple[_I32, _I32, _I64]: ...
def cosmic_ray_candidates(image: _F32, variance: _F32, min_sigma: float) -> _I64: ...
def replace_pixels(
    image: _F32,
    mask: _I32,
    variance: _F32,
    y: _I32,
    x0: _I32,
    x1: _I32,
    background: float,
    excluded_bits: int,
) -> _I64: ...
def copy_swapped(source: _U8, size: int, out: _U8) -> None: ...
def count_bits(mask: _I32, bits: int) -> int: ...
def count_usable(image: _F32, variance: _F32) -> tuple[int, int]: ...
def bright_maxima(image: _F32, level: float) -> tuple[_I32, _I32]: ...
def clear_bits(mask: _I32, bits: int) -> None: ...
def block_means(
    image: _F32, mask: _I32, bits: int, block: int, low: float, high: float
) -> tuple[_F32, _I32]: ...
def line_sums(plane: NDArray[np.int16]) -> NDArray[np.int16]: ...
def line_scores(sums: NDArray[np.int16], counts: NDArray[np.int16], shortest: _F32) -> _F32: ...
def group_quartiles(values: _F32, group: _I32, groups: int) -> tuple[_F64, _I64]: ...
def link_chains(edges: NDArray[np.uint8], shortest: int) -> tuple[_I32, _I32, _I64]: ...
def subdivide_chains(x: _I32, y: _I32, start: _I64, smallest: int, deviation: float) -> tuple[_I64, _I64]: ...
def hough_votes(kernels: _F64, scale: float, delta: float, thetas: int, rhos: int) -> _I32: ...
def symmetric_templates(
    image: _F32,
    variance: _F32,
    mask: _I32,
    edge_bits: int,
    y: _I32,
    x0: _I32,
    x1: _I32,
    start: _I64,
    peak_x: _I32,
    peak_y: _I32,
    peak_start: _I64,
    wanted: _Bool,
    smooth: bool,
    reach: int,
    edge: int,
    profile: _F64,
    edge_significance: float,
) -> tuple[_F32, _I64, _I32, _I32]: ...
def fit_point_sources(
    image: _F32,
    variance: _F32,
    mask: _I32,
    bad: int,
    y: _I32,
    x0: _I32,
    x1: _I32,
    start: _I64,
    peak_start: _I64,
    wanted: _Bool,
    x: _F64,
    y_centre: _F64,
    own: _F64,
    own_x0: _I64,
    own_y0: _I64,
    others: _F64,
    others_x0: _I64,
    others_y0: _I64,
    inner: float,
    outer: float,
    shift: bool,
) -> _F64: ...
def apportion(
    height: int,
    width: int,
    y: _I32,
    x0: _I32,
    x1: _I32,
    start: _I64,
    peak_x: _I32,
    peak_y: _I32,
    peak_start: _I64,
    values: _F32,
    value_start: _I64,
    boxes: _I32,
    point_source: _Bool,
    stray: int,
    to_point_sources: int,
    least: float,
    reach: int,
) -> tuple[_I32, _I32, _I32, _I64, _F32, _U8]: ...
def fit_two_gaussians(squares: _F64, values: _F64, start: _F64, limits: _F64, steps: int) -> _F64: ...
def split_bytes(elements: _U8) -> tuple[bytes, bytes]: ...
def join_bytes(low: _U8, high: _U8, out: _U8) -> None: ...
