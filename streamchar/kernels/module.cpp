// The extension module: one registration function per kernel file, nothing else.
#include "arrays.hpp"

namespace streamchar {
void register_apertures(nb::module_ &m);
void register_apportion(nb::module_ &m);
void register_bin_statistics(nb::module_ &m);
void register_blend_sums(nb::module_ &m);
void register_byte_order(nb::module_ &m);
void register_byte_planes(nb::module_ &m);
void register_centroid(nb::module_ &m);
void register_detect(nb::module_ &m);
void register_ellipse_pixels(nb::module_ &m);
void register_footprint_bits(nb::module_ &m);
void register_gaussian_flux(nb::module_ &m);
void register_grid_interpolation(nb::module_ &m);
void register_group_quartiles(nb::module_ &m);
void register_grow(nb::module_ &m);
void register_higher_moments(nb::module_ &m);
void register_hough(nb::module_ &m);
void register_hsm_moments(nb::module_ &m);
void register_lanczos(nb::module_ &m);
void register_inverse_variance(nb::module_ &m);
void register_line_sums(nb::module_ &m);
void register_peaks(nb::module_ &m);
void register_psf_broadening(nb::module_ &m);
void register_point_significance(nb::module_ &m);
void register_point_sources(nb::module_ &m);
void register_psf_fit(nb::module_ &m);
void register_psf_flux(nb::module_ &m);
void register_psf_model(nb::module_ &m);
void register_scene(nb::module_ &m);
void register_sdss_shape(nb::module_ &m);
void register_separable_model(nb::module_ &m);
void register_sinc_apertures(nb::module_ &m);
void register_smooth(nb::module_ &m);
void register_spans(nb::module_ &m);
void register_split(nb::module_ &m);
void register_star_modes(nb::module_ &m);
void register_star_pixels(nb::module_ &m);
void register_usable(nb::module_ &m);
void register_windows(nb::module_ &m);
void register_symmetric_templates(nb::module_ &m);
void register_cosmic_rays(nb::module_ &m);
} // namespace streamchar

NB_MODULE(_kernels, m) {
  m.doc() = "Compiled loops of streamchar: arrays in, arrays out, no policy.";
  streamchar::register_apertures(m);
  streamchar::register_apportion(m);
  streamchar::register_bin_statistics(m);
  streamchar::register_blend_sums(m);
  streamchar::register_byte_order(m);
  streamchar::register_byte_planes(m);
  streamchar::register_centroid(m);
  streamchar::register_detect(m);
  streamchar::register_ellipse_pixels(m);
  streamchar::register_footprint_bits(m);
  streamchar::register_gaussian_flux(m);
  streamchar::register_grid_interpolation(m);
  streamchar::register_group_quartiles(m);
  streamchar::register_grow(m);
  streamchar::register_higher_moments(m);
  streamchar::register_hough(m);
  streamchar::register_hsm_moments(m);
  streamchar::register_lanczos(m);
  streamchar::register_inverse_variance(m);
  streamchar::register_line_sums(m);
  streamchar::register_peaks(m);
  streamchar::register_psf_broadening(m);
  streamchar::register_point_significance(m);
  streamchar::register_point_sources(m);
  streamchar::register_psf_fit(m);
  streamchar::register_psf_flux(m);
  streamchar::register_psf_model(m);
  streamchar::register_scene(m);
  streamchar::register_sdss_shape(m);
  streamchar::register_separable_model(m);
  streamchar::register_sinc_apertures(m);
  streamchar::register_smooth(m);
  streamchar::register_spans(m);
  streamchar::register_split(m);
  streamchar::register_star_modes(m);
  streamchar::register_star_pixels(m);
  streamchar::register_usable(m);
  streamchar::register_windows(m);
  streamchar::register_symmetric_templates(m);
  streamchar::register_cosmic_rays(m);
}
