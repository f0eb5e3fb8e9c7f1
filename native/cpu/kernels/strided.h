// Elementwise loops over views of one shape with any strides (0 broadcasts).
//
// A Loop holds the common shape and each operand's strides, after dimensions of size 1 are dropped and dimensions that
// are laid out as one in every operand are joined, so that contiguous tensors become a single row. Work is cut by flat
// element index into chunks. A chunk is a sequence of (parts of) rows along the innermost dimension, and for each of
// them the kernel gets the operands' offsets. map_row then runs a vector function along a row.
#pragma once
#include <type_traits>
#include <utility>

#include "core/checks/elementwise.h"
#include "cpu/kernels/convert.h"

namespace heed::cpu::HEED_ISA {
namespace {

// The least number of elements in a chunk: with fewer, handing a chunk to another thread costs more than it saves.
constexpr int64_t kGrain = 16384;

template <int N>
struct Loop {
  int rank = 1;
  int64_t size = 1;
  int64_t shape[kMaxRank] = {1};
  int64_t strides[N][kMaxRank] = {};

  int64_t row() const { return shape[rank - 1]; }
  int64_t stride(int operand) const { return strides[operand][rank - 1]; }
};

// `any` sorts the dimensions by the first operand's strides, the largest outermost. `logical` keeps their order, so
// that the flat index is the element's index in the tensor.
enum class Order { any, logical };

template <int N>
Loop<N> make_loop(const TensorView* const (&views)[N], Order order = Order::any) {
  int dims[kMaxRank], rank = 0;
  for (int d = 0; d < views[0]->rank; d++) {
    if (views[0]->shape[d] == 1) continue;
    int at = rank++;
    if (order == Order::any)
      for (; at > 0 && views[0]->strides[dims[at - 1]] < views[0]->strides[d]; at--) dims[at] = dims[at - 1];
    dims[at] = d;
  }
  Loop<N> loop;
  if (rank == 0) return loop;
  loop.rank = 0;
  for (int k = 0; k < rank; k++) {
    const int d = dims[k], outer = loop.rank - 1;
    const int64_t size = views[0]->shape[d];
    loop.size *= size;
    bool joins = loop.rank > 0;
    for (int i = 0; joins && i < N; i++) joins = loop.strides[i][outer] == views[i]->strides[d] * size;
    const int to = joins ? outer : loop.rank++;
    loop.shape[to] = joins ? loop.shape[to] * size : size;
    for (int i = 0; i < N; i++) loop.strides[i][to] = views[i]->strides[d];
  }
  return loop;
}

// Computes the position of an element along each dimension and in each operand.
template <int N>
inline void locate(const Loop<N>& loop, int64_t element, int64_t* index, int64_t* offsets) {
  for (int i = 0; i < N; i++) offsets[i] = 0;
  for (int d = loop.rank - 1; d >= 0; d--) {
    index[d] = d ? element % loop.shape[d] : element;
    element /= loop.shape[d];
    for (int i = 0; i < N; i++) offsets[i] += index[d] * loop.strides[i][d];
  }
}

// Calls body(offsets, n) for each row, or part of one, of elements [begin, end).
template <int N, class Body>
void for_rows(const Loop<N>& loop, int64_t begin, int64_t end, const Body& body) {
  if (begin >= end) return;
  const int inner = loop.rank - 1;
  int64_t index[kMaxRank], offsets[N];
  locate(loop, begin, index, offsets);
  for (;;) {
    const int64_t n = min_of(loop.shape[inner] - index[inner], end - begin);
    body(offsets, n);
    begin += n;
    if (begin >= end) return;
    for (int i = 0; i < N; i++) offsets[i] -= index[inner] * loop.strides[i][inner];
    index[inner] = 0;
    for (int d = inner - 1; d >= 0; d--) {
      const int64_t step = ++index[d] < loop.shape[d] ? 1 : 1 - loop.shape[d];
      for (int i = 0; i < N; i++) offsets[i] += step * loop.strides[i][d];
      if (step == 1) break;
      index[d] = 0;
    }
  }
}

template <int N, class Body>
void parallel_rows(const Loop<N>& loop, const Body& body) {
  parallel_for(loop.size, kGrain, [&](int64_t begin, int64_t end) { for_rows(loop, begin, end, body); });
}

// The sources and targets of a row's vectors. `n` is the number of lanes that count, kWidth for whole vectors.
template <class T>
struct Contiguous {
  T* p;
  Contiguous at(int64_t i) const { return {p + i}; }
  vf load(int64_t i) const { return HEED_ISA::load(p + i); }
  vf load(int64_t i, int64_t n) const { return load_n(p + i, n); }
  void store(int64_t i, vf v) const { HEED_ISA::store(p + i, v); }
  void store(int64_t i, vf v, int64_t n) const { store_n(p + i, v, n); }
};
// A row of any float dtype, which is tested at each vector. It is not inlined: working lane by lane takes longer than
// that test and a call, and every kernel would hold several copies.
struct Strided {
  void* p;
  DType dtype;
  int64_t stride;
  // Returns the row moved by `i` elements, whatever the stride.
  Strided at(int64_t i) const {
    return {static_cast<char*>(p) + i * static_cast<int64_t>(size_of(dtype)), dtype, stride};
  }
  __attribute__((noinline)) vf load(int64_t i, int64_t n = kWidth) const {
    vf v{};
    with_float_type(dtype, [&](auto type) {
      decltype(type) lanes[kWidth] = {};
      for (int64_t k = 0; k < n; k++) lanes[k] = static_cast<decltype(type)*>(p)[(i + k) * stride];
      v = HEED_ISA::load(lanes);
    });
    return v;
  }
  __attribute__((noinline)) void store(int64_t i, vf v, int64_t n = kWidth) const {
    with_float_type(dtype, [&](auto type) {
      decltype(type) lanes[kWidth];
      HEED_ISA::store(lanes, v);
      for (int64_t k = 0; k < n; k++) static_cast<decltype(type)*>(p)[(i + k) * stride] = lanes[k];
    });
  }
};
inline Strided strided(const TensorView& view, int64_t offset, int64_t stride) {
  return Strided{view.data, view.dtype, stride}.at(offset);
}

// out[i] = f(in[i]...) or, with `accumulate`, out[i] += f(in[i]...).
template <class Sink, class F, class... Source>
inline void map_row(Sink out, int64_t n, bool accumulate, F f, Source... in) {
  // `part` is empty, or the number of lanes.
  const auto step = [&](int64_t i, auto... part) {
    vf v = f(in.load(i, part...)...);
    if (accumulate) v += out.load(i, part...);
    out.store(i, v, part...);
  };
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) step(i);
  if (i < n) step(i, n - i);
}

constexpr int64_t kPiece = 1024;

// out = f(in...) or, with `accumulate`, out += f(in...), element by element, all of one float dtype. Rows along which
// every operand is contiguous, or repeats one value, run on whole vectors; for other rows, lanes are gathered. A value
// that is repeated is written out for a piece of the row.
template <class F, class... View, size_t... I>
void map_elements(std::index_sequence<I...>, bool accumulate, const F& f, const TensorView& out, const View&... in) {
  constexpr int N = 1 + sizeof...(in);
  const TensorView* const views[N] = {&out, &in...};
  const Loop<N> loop = make_loop(views);
  bool whole = loop.stride(0) == 1, repeats = false;
  for (int i = 1; i < N; i++) {
    whole = whole && loop.stride(i) <= 1;
    repeats = repeats || loop.stride(i) == 0;
  }
  parallel_rows(loop, [&](const int64_t* offsets, int64_t n) {
    if (!whole)
      return map_row(strided(out, offsets[0], loop.stride(0)), n, accumulate, f,
                     strided(in, offsets[1 + I], loop.stride(1 + I))...);
    with_float_type(out.dtype, [&](auto type) {
      using T = decltype(type);
      T* const to = out.ptr<T>() + offsets[0];
      T repeated[N][kPiece];
      const T* from[N];
      for (int i = 1; i < N; i++) {
        from[i] = views[i]->template ptr<T>() + offsets[i];
        if (loop.stride(i) == 1) continue;
        for (int64_t k = 0; k < min_of(n, kPiece); k++) repeated[i][k] = *from[i];
        from[i] = repeated[i];
      }
      const int64_t piece = repeats ? kPiece : n;
      for (int64_t begin = 0; begin < n; begin += piece)
        map_row(Contiguous<T>{to + begin}, min_of(piece, n - begin), accumulate, f,
                Contiguous<const T>{from[1 + I] + loop.stride(1 + I) * begin}...);
    });
  });
}
template <class F, class... View>
void map_elements(bool accumulate, const F& f, const TensorView& out, const View&... in) {
  map_elements(std::index_sequence_for<View...>{}, accumulate, f, out, in...);
}

// Calls f(k) with the constant whose value is `kind`, among the first `count` of an enum.
template <class Kind, int64_t count, int64_t k = 0, class F>
inline void with_kind(int64_t kind, const F& f) {
  if (kind == k) return f(std::integral_constant<Kind, static_cast<Kind>(k)>{});
  if constexpr (k + 1 < count) with_kind<Kind, count, k + 1>(kind, f);
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
