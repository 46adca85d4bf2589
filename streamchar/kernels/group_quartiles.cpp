// Quartiles of values that belong to numbered groups.
#include "arrays.hpp"
#include "rows.hpp"
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

// The sorted values' element at fraction f of n - 1, between two elements by linear interpolation. Reorders the values.
double quantile(std::vector<float>::iterator first, std::vector<float>::iterator last, double f) {
  const double place = f * double(last - first - 1);
  const auto at = first + std::ptrdiff_t(place);
  std::nth_element(first, at, last);
  const double rest = place - std::floor(place), lower = double(*at);
  if (rest == 0.0) return lower;
  return lower + rest * (double(*std::min_element(at + 1, last)) - lower);
}

nb::tuple group_quartiles(Vector<const float> values, Vector<const std::int32_t> group, std::int64_t groups) {
  const std::size_t n = values.shape(0);
  if (group.shape(0) != n) throw std::invalid_argument("values and groups differ in length");
  if (groups < 0) throw std::invalid_argument("a number of groups is not negative");
  Rows<double> result(std::size_t(groups), 3);
  Values<std::int64_t> counts{std::size_t(groups)};
  {
    nb::gil_scoped_release release;
    const auto counted = [&](std::size_t i) { return group(i) >= 0 && group(i) < groups && std::isfinite(values(i)); };
    std::vector<std::size_t> start(std::size_t(groups) + 1, 0);
    for (std::size_t i = 0; i < n; ++i)
      if (counted(i)) ++start[std::size_t(group(i)) + 1];
    for (std::size_t g = 0; g < std::size_t(groups); ++g) {
      counts[g] = std::int64_t(start[g + 1]);
      start[g + 1] += start[g];
    }
    std::vector<float> sorted(start.back());
    std::vector<std::size_t> next(start.begin(), start.end() - 1);
    for (std::size_t i = 0; i < n; ++i)
      if (counted(i)) sorted[next[std::size_t(group(i))]++] = values(i);
    for (std::size_t g = 0; g < std::size_t(groups); ++g)
      for (int k = 0; k < 3; ++k)
        result.row(g)[k] = start[g + 1] == start[g] ? std::numeric_limits<double>::quiet_NaN()
                                                    : quantile(sorted.begin() + std::ptrdiff_t(start[g]),
                                                               sorted.begin() + std::ptrdiff_t(start[g + 1]), 0.25 * (k + 1));
  }
  return nb::make_tuple(result.release(), counts.release());
}

} // namespace

void register_group_quartiles(nb::module_ &m) {
  m.def("group_quartiles", &group_quartiles, nb::arg("values"), nb::arg("group"), nb::arg("groups"),
        "Lower quartile, median and upper quartile of the finite values of each group 0..groups - 1, by linear interpolation at f (n - 1): float64 "
        "(groups, 3), NaN for an empty group; and the numbers of values, int64 (groups). Values of other group numbers are left out.");
}

} // namespace streamchar
