// An image whose sources can be shown one at a time, all other sources' pixels being noise.
#pragma once
#include "arrays.hpp"
#include <optional>
#include <vector>

namespace streamchar {

// Owns nothing but the footprints' original pixels; writes into the image plane it was given, and keeps the other arrays alive.
class Scene {
public:
  Scene(Plane<float> image, Vector<const std::int32_t> y, Vector<const std::int32_t> x0, Vector<const std::int32_t> x1,
        Vector<const std::int64_t> start, Vector<const float> noise, std::optional<Vector<const float>> share = std::nullopt);

  std::size_t height() const { return image_.shape(0); }
  std::size_t width() const { return image_.shape(1); }
  std::size_t footprints() const { return start_.size() - 1; }
  const float *row(std::size_t y) const { return image_.data() + y * width(); }
  const Plane<float> &image() const { return image_; }

  void show(std::size_t i); // put the source's own light back
  void hide(std::size_t i); // replace it by noise again
  void hide_all();
  void show_all();

  // The footprints that kernels measure as their sources 0, 1, ...; all of them in order unless chosen.
  const std::vector<std::size_t> &sources() const { return sources_; }
  void set_sources(std::vector<std::size_t> footprints);

  // A kernel measures n sources: either nothing is ever hidden or there is a footprint for each.
  void require_sources(std::size_t n) const;

private:
  struct Span {
    std::int32_t y, x0, x1;
    std::size_t size() const { return std::size_t(x1 - x0 + 1); }
    std::size_t offset; // of its first pixel in originals_ and share_
  };
  void restore(std::size_t i);
  float *pixels(const Span &span) { return image_.data() + std::size_t(span.y) * width() + std::size_t(span.x0); }

  Plane<float> image_;
  std::vector<Span> spans_;
  std::vector<std::size_t> start_;
  std::vector<std::size_t> sources_;
  std::vector<float> originals_;
  Vector<const float> noise_;                // repeated over the pixels of all spans
  std::optional<Vector<const float>> share_; // what part of originals_ is the source's own; none when that is all
};

// Shows source i of those chosen for as long as it lives.
class Shown {
public:
  Shown(Scene &scene, std::size_t i) : scene_(scene), i_(scene.footprints() ? scene.sources()[i] : 0) {
    if (scene_.footprints()) scene_.show(i_);
  }
  ~Shown() {
    if (scene_.footprints()) scene_.hide(i_);
  }
  Shown(const Shown &) = delete;
  Shown &operator=(const Shown &) = delete;

private:
  Scene &scene_;
  std::size_t i_;
};

} // namespace streamchar
