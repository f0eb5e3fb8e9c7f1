// Definitions that the parts of the matrix product share: the problem after the host function has checked it, and the
// place of each matrix of a batch. gemm.cc describes the whole.
#pragma once
#include "core/kinds.h"
#include "core/quantized.h"
#include "core/windows.h"
#include "cpu/kernels/convert.h"

namespace heed::cpu::HEED_ISA {
namespace {

// A place among elements of a float dtype that is known only at run time.
struct Floats {
  char* data = nullptr;
  DType dtype = DType::f32;

  Floats() = default;
  Floats(void* place, DType type) : data(static_cast<char*>(place)), dtype(type) {}
  explicit Floats(const TensorView& view) : Floats(view.data, view.dtype) {}

  explicit operator bool() const { return data; }
  Floats operator+(int64_t elements) const { return {data + elements * static_cast<int64_t>(size_of(dtype)), dtype}; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
  // f(T*) with the type of the elements.
  template <class F>
  void visit(const F& f) const {
    with_float_type(dtype, [&](auto type) { f(reinterpret_cast<decltype(type)*>(data)); });
  }
};

// Loads or stores the first n elements, at most kWidth; the other lanes are zeros and are not written.
template <class T>
inline vf load_upto(const T* p, int64_t n) {
  return n >= kWidth ? load(p) : load_n(p, n);
}
template <class T>
inline void store_upto(T* p, vf v, int64_t n) {
  if (n >= kWidth)
    store(p, v);
  else
    store_n(p, v, n);
}

// A [..., rows, columns] operand: strides of the last two dimensions and of the leading ones.
struct Matrices {
  Floats data;
  int64_t row = 0, column = 0;
  int batch_rank = 0;
  int64_t batch_shape[kMaxRank] = {}, batch_strides[kMaxRank] = {};

  Matrices() = default;
  explicit Matrices(const TensorView& view)
      : data(view), row(view.stride(-2)), column(view.stride(-1)), batch_rank(view.rank - 2) {
    for (int i = 0; i < batch_rank; i++) {
      batch_shape[i] = view.shape[i];
      batch_strides[i] = view.strides[i];
    }
  }

  explicit operator bool() const { return static_cast<bool>(data); }
  Floats at(int64_t batch) const {
    if (!data) return data;
    int64_t offset = 0;
    for (int i = batch_rank - 1; i >= 0; i--) {
      offset += batch % batch_shape[i] * batch_strides[i];
      batch /= batch_shape[i];
    }
    return data + offset;
  }
};

// The transpose of a quantised weight as B: B[j, i] is W[i, j], the weight from its input i to its output j.
struct QuantizedTranspose {
  QuantizedLayout weight{};
  const uint8_t* codes = nullptr;
  const bf16* scales = nullptr;

  explicit operator bool() const { return codes; }
};

// The patches of images [B, H, W, channels] under a window as A: row (b, y, x) has the elements (tap of y, tap of x,
// channel), or zeros where a tap lies outside of the image. `transposed`, these are the columns; matrix i of a batch
// then has the i-th k patches.
struct Patches {
  Axis y{}, x{};
  Floats images;
  int64_t count = 0;  // of images
  int64_t channels = 0;
  bool transposed = false;

  explicit operator bool() const { return static_cast<bool>(images); }
};

struct Problem {
  int64_t batch = 1, m = 0, n = 0, k = 0;
  Matrices a, b, out, residual, preact, dact;  // without data if an optional one is absent
  Matrices partial;  // in f32, for sums over a part of K that wait for the rest; it is out if out can hold them
  Patches patches;   // take the place of a in products of many rows
  QuantizedTranspose quantized;  // takes the place of b in products of many rows
  Floats bias;
  Activation activation = Activation::none;
  bool accumulate = false;

  // Returns true if b is rounded to the dtype of a. Otherwise its numbers are what is stored.
  bool rounds_b() const { return a.data.dtype != DType::f32 && b.data.dtype != a.data.dtype; }
  // Returns true if the result is the bare product, so that an earlier value of `out` may be added at any time.
  bool plain() const { return !bias && !residual && !preact && !dact && activation == Activation::none; }
};

}  // namespace
}  // namespace heed::cpu::HEED_ISA
