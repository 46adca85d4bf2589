// Arrays that kernels fill and hand over to NumPy.
#pragma once
#include "arrays.hpp"
#include <memory>

namespace streamchar {

// Rows of equal length: one row per source, one column per quantity.
template <typename T> class Rows {
public:
  Rows(std::size_t rows, std::size_t columns) : rows_(rows), columns_(columns), data_(new T[rows * columns]()) {}
  T *row(std::size_t i) { return data_.get() + i * columns_; }
  nb::object release() { return nb::cast(to_numpy(std::move(data_), rows_, columns_)); }

private:
  std::size_t rows_, columns_;
  std::unique_ptr<T[]> data_;
};

template <typename T> class Values {
public:
  explicit Values(std::size_t n) : n_(n), data_(new T[n]()) {}
  T &operator[](std::size_t i) { return data_[i]; }
  nb::object release() { return nb::cast(to_numpy(std::move(data_), n_)); }

private:
  std::size_t n_;
  std::unique_ptr<T[]> data_;
};

} // namespace streamchar
