// A tensor as kernels see it: a plain view of memory that belongs to something else.
//
// Strides are in elements. They may be zero (broadcast) but not negative. A view must not be kept after the operation
// that it was made for: the device's queue runs operations in order, and memory is recycled in that order
// (allocator.h).
#pragma once
#include <cstdint>
#include <initializer_list>

#include "core/dtype.h"

namespace heed {

constexpr int kMaxRank = 8;

struct TensorView {
  void* data = nullptr;
  DType dtype = DType::f32;
  int32_t rank = 0;
  int64_t shape[kMaxRank] = {};
  int64_t strides[kMaxRank] = {};

  template <class T>
  T* ptr() const {
    return static_cast<T*>(data);
  }
  float* f32() const { return static_cast<float*>(data); }
  int32_t* i32() const { return static_cast<int32_t*>(data); }

  // Negative positions count from the end: dim(-1) is the innermost size.
  int64_t dim(int i) const { return shape[i < 0 ? rank + i : i]; }
  int64_t stride(int i) const { return strides[i < 0 ? rank + i : i]; }

  int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= shape[i];
    return n;
  }
  bool empty() const { return numel() == 0; }
  bool contiguous() const {
    if (empty()) return true;
    int64_t expected = 1;
    for (int i = rank - 1; i >= 0; i--) {
      if (shape[i] != 1 && strides[i] != expected) return false;
      expected *= shape[i];
    }
    return true;
  }
  // Returns element i of the first dimension.
  TensorView at(int64_t i) const {
    TensorView element;
    element.data = ptr<char>() + i * strides[0] * static_cast<int64_t>(size_of(dtype));
    element.dtype = dtype;
    element.rank = rank - 1;
    for (int d = 1; d < rank; d++) {
      element.shape[d - 1] = shape[d];
      element.strides[d - 1] = strides[d];
    }
    return element;
  }
};

// A list of views. Its memory is released in core (error.h explains why kernels hold no std::vector).
class ViewList {
 public:
  ViewList() = default;
  explicit ViewList(int64_t size);
  ViewList(const ViewList& other);
  ViewList(ViewList&& other) noexcept;
  ViewList& operator=(const ViewList&) = delete;
  ~ViewList();
  int64_t size() const { return size_; }
  TensorView& operator[](int64_t i) { return views_[i]; }
  const TensorView& operator[](int64_t i) const { return views_[i]; }

 private:
  TensorView* views_ = nullptr;
  int64_t size_ = 0;
};

// Checks for an operation's host function. Each throws ERR_SHAPE or ERR_DTYPE with a message such as
// "layernorm_forward: expected weight of shape [768], got [512]".
void expect_dtype(const char* op, const char* name, const TensorView& view, DType expected);
void expect_shape(const char* op, const char* name, const TensorView& view, std::initializer_list<int64_t> expected);
void expect_same_shape(const char* op, const char* name, const TensorView& view, const TensorView& other);
void expect_rank(const char* op, const char* name, const TensorView& view, int expected);
void expect_contiguous(const char* op, const char* name, const TensorView& view);
// Checks that the view is f32 and contiguous, as most CPU kernels require.
void expect_f32(const char* op, const char* name, const TensorView& view);

// Writes a shape such as "[2, 3]" into the caller's buffer, for messages.
const char* shape_string(const TensorView& view, char* buffer, int size);

}  // namespace heed
