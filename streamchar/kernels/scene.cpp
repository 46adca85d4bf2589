// The scene: neighbours replaced by noise without copying the image.
#include "scene.hpp"
#include <algorithm>
#include <functional>
#include <nanobind/stl/optional.h>
#include <numeric>
#include <stdexcept>

namespace streamchar {

Scene::Scene(Plane<float> image, Vector<const std::int32_t> y, Vector<const std::int32_t> x0, Vector<const std::int32_t> x1,
             Vector<const std::int64_t> start, Vector<const float> noise, std::optional<Vector<const float>> share)
    : image_(image), noise_(noise), share_(share) {
  const std::size_t spans = y.shape(0), sources = start.shape(0) ? start.shape(0) - 1 : 0;
  if (x0.shape(0) != spans || x1.shape(0) != spans) throw std::invalid_argument("span arrays differ in length");
  if (start.shape(0) == 0 || start(0) != 0 || std::size_t(start(sources)) != spans)
    throw std::invalid_argument("start must run from 0 to the number of spans");
  for (std::size_t i = 0; i < sources; ++i)
    if (start(i + 1) < start(i)) throw std::invalid_argument("start must not decrease");
  std::size_t pixels = 0;
  spans_.reserve(spans);
  for (std::size_t s = 0; s < spans; ++s) {
    if (y(s) < 0 || std::size_t(y(s)) >= height() || x0(s) < 0 || x1(s) < x0(s) || std::size_t(x1(s)) >= width())
      throw std::invalid_argument("span outside the image");
    spans_.push_back({y(s), x0(s), x1(s), pixels});
    pixels += spans_.back().size();
  }
  if (noise.shape(0) > pixels || (noise.shape(0) == 0 && pixels > 0))
    throw std::invalid_argument("noise needs one value for each pixel of the spans, or fewer that are repeated");
  if (share && share->shape(0) != pixels) throw std::invalid_argument("share needs one value for each pixel of the spans");
  originals_.reserve(pixels);
  for (const Span &span : spans_) {
    const float *first = this->pixels(span);
    originals_.insert(originals_.end(), first, first + span.size());
  }
  start_.assign(start.data(), start.data() + sources + 1);
  sources_.resize(sources);
  std::iota(sources_.begin(), sources_.end(), std::size_t(0));
}

void Scene::show(std::size_t i) {
  if (!share_) return restore(i);
  for (std::size_t s = start_[i]; s < start_[i + 1]; ++s) {
    const float *light = originals_.data() + spans_[s].offset, *share = share_->data() + spans_[s].offset;
    std::transform(light, light + spans_[s].size(), share, pixels(spans_[s]), std::multiplies<>());
  }
}

void Scene::hide(std::size_t i) {
  if (start_[i] == start_[i + 1]) return;
  const std::size_t period = noise_.shape(0);
  std::size_t from = spans_[start_[i]].offset % period;
  for (std::size_t s = start_[i]; s < start_[i + 1]; ++s) {
    float *to = pixels(spans_[s]);
    for (std::size_t left = spans_[s].size(); left > 0;) {
      const std::size_t n = std::min(left, period - from);
      to = std::copy_n(noise_.data() + from, n, to);
      left -= n;
      from = from + n < period ? from + n : 0;
    }
  }
}

void Scene::restore(std::size_t i) {
  for (std::size_t s = start_[i]; s < start_[i + 1]; ++s)
    std::copy_n(originals_.data() + spans_[s].offset, spans_[s].size(), pixels(spans_[s]));
}

void Scene::hide_all() {
  for (std::size_t i = 0; i < footprints(); ++i) hide(i);
}

void Scene::show_all() {
  for (std::size_t i = 0; i < footprints(); ++i) restore(i);
}

void Scene::require_sources(std::size_t n) const {
  if (footprints() != 0 && n > sources_.size()) throw std::invalid_argument("more sources than footprints chosen in the scene");
}

void Scene::set_sources(std::vector<std::size_t> chosen) {
  for (const std::size_t i : chosen)
    if (i >= footprints()) throw std::invalid_argument("no such footprint in the scene");
  sources_ = std::move(chosen);
}

namespace {

std::size_t checked(const Scene &scene, std::size_t i) {
  if (i >= scene.footprints()) throw nb::index_error("no such footprint in the scene");
  return i;
}

} // namespace

void register_scene(nb::module_ &m) {
  nb::class_<Scene>(m, "Scene",
                    "An image (float32, modified in place) whose footprints can be hidden by noise. Spans as in Footprints: rows y, "
                    "columns x0..x1 inclusive, source i owning spans start[i]:start[i + 1]; noise holds float32 values for the span pixels, fewer being repeated (kept, not copied), and share, "
                    "when given, the fraction of the pixel's light that is shown as the source's. "
                    "Measuring kernels show one source at a time: their source i is the i-th footprint of sources. Restore the image with show_all.")
      .def(nb::init<Plane<float>, Vector<const std::int32_t>, Vector<const std::int32_t>, Vector<const std::int32_t>,
                    Vector<const std::int64_t>, Vector<const float>, std::optional<Vector<const float>>>(),
           nb::arg("image").noconvert(), nb::arg("y"), nb::arg("x0"), nb::arg("x1"), nb::arg("start"), nb::arg("noise"), nb::arg("share") = nb::none())
      .def_prop_ro("image", &Scene::image, "The image plane as it is now, float32 (height, width).")
      .def_prop_rw(
          "sources",
          [](const Scene &s) {
            auto numbers = unset<std::int64_t>(s.sources().size());
            std::copy(s.sources().begin(), s.sources().end(), numbers.get());
            return nb::cast(to_numpy(std::move(numbers), s.sources().size()));
          },
          [](Scene &s, Vector<const std::int64_t> chosen) { s.set_sources({chosen.data(), chosen.data() + chosen.shape(0)}); },
          "Footprints that measuring kernels take as their sources 0, 1, ..., int64; at first all of them in order.")
      .def_prop_ro("footprints", &Scene::footprints, "Number of footprints that can be shown and hidden.")
      .def("show", [](Scene &s, std::size_t i) { s.show(checked(s, i)); }, nb::arg("i"), "Put the pixels of footprint i back, times its share.")
      .def("hide", [](Scene &s, std::size_t i) { s.hide(checked(s, i)); }, nb::arg("i"), "Replace the pixels of footprint i by noise.")
      .def("hide_all", &Scene::hide_all, nb::call_guard<nb::gil_scoped_release>(), "Replace all footprints by noise.")
      .def("show_all", &Scene::show_all, nb::call_guard<nb::gil_scoped_release>(), "Put all pixels back.");
}

} // namespace streamchar
