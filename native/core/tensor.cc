#include "core/tensor.h"

#include <cstdio>

#include "core/error.h"

namespace heed {

ViewList::ViewList(int64_t size) : views_(new TensorView[size]), size_(size) {}

ViewList::ViewList(const ViewList& other) : ViewList(other.size_) {
  for (int64_t i = 0; i < size_; i++) views_[i] = other.views_[i];
}

ViewList::ViewList(ViewList&& other) noexcept : views_(other.views_), size_(other.size_) {
  other.views_ = nullptr;
  other.size_ = 0;
}

ViewList::~ViewList() { delete[] views_; }

static const char* dims_string(const int64_t* dims, int rank, char* buffer, int size) {
  int used = std::snprintf(buffer, size, "[");
  for (int i = 0; i < rank && used < size; i++)
    used += std::snprintf(buffer + used, size - used, i ? ", %lld" : "%lld", static_cast<long long>(dims[i]));
  if (used < size) std::snprintf(buffer + used, size - used, "]");
  return buffer;
}

const char* shape_string(const TensorView& view, char* buffer, int size) {
  return dims_string(view.shape, view.rank, buffer, size);
}

[[noreturn]] static void fail_shape(const char* op, const char* name, const int64_t* expected, int rank,
                                    const TensorView& view) {
  char wanted[160], given[160];
  fail(Code::shape, "%s: expected %s of shape %s, got %s", op, name, dims_string(expected, rank, wanted, sizeof wanted),
       shape_string(view, given, sizeof given));
}

void expect_dtype(const char* op, const char* name, const TensorView& view, DType expected) {
  if (view.dtype != expected)
    fail(Code::dtype, "%s: expected %s of dtype %s, got %s", op, name, name_of(expected), name_of(view.dtype));
}

void expect_shape(const char* op, const char* name, const TensorView& view, std::initializer_list<int64_t> expected) {
  bool same = static_cast<int>(expected.size()) == view.rank;
  for (int i = 0; same && i < view.rank; i++) same = expected.begin()[i] == view.shape[i];
  if (!same) fail_shape(op, name, expected.begin(), static_cast<int>(expected.size()), view);
}

void expect_same_shape(const char* op, const char* name, const TensorView& view, const TensorView& other) {
  bool same = other.rank == view.rank;
  for (int i = 0; same && i < view.rank; i++) same = other.shape[i] == view.shape[i];
  if (!same) fail_shape(op, name, other.shape, other.rank, view);
}

void expect_rank(const char* op, const char* name, const TensorView& view, int expected) {
  char given[160];
  if (view.rank != expected)
    fail(Code::shape, "%s: expected %s with %d dimensions, got shape %s", op, name, expected,
         shape_string(view, given, sizeof given));
}

void expect_contiguous(const char* op, const char* name, const TensorView& view) {
  char given[160];
  if (!view.contiguous())
    fail(Code::shape, "%s: expected %s to be contiguous, got a strided view of shape %s", op, name,
         shape_string(view, given, sizeof given));
}

void expect_f32(const char* op, const char* name, const TensorView& view) {
  expect_dtype(op, name, view, DType::f32);
  expect_contiguous(op, name, view);
}

}  // namespace heed
