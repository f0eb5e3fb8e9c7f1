// out[...] = inp[...], or += for floats, with any strides on both sides (0 in inp broadcasts) and any pair of dtypes,
// converted as convert.h describes.
//
// With the same dtype on both sides the kernel moves bits, by memcpy if both rows are contiguous. If out and inp run
// along different dimensions (a transpose), 16 x 16 tiles are read along inp's rows and written along out's, so that
// both touch whole cache lines. The work is parallel over elements or tiles.
#include "cpu/kernels/convert.h"
#include "cpu/kernels/kernel.h"
#include "cpu/kernels/strided.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

constexpr int64_t kTile = 16;  // a cache line of f32, and a size that the compiler transposes in registers

// It is not inlined: working lane by lane takes longer than a call, and every pair of dtypes would hold several copies.
template <class T>
__attribute__((noinline)) void gather_lanes(T (&lanes)[kWidth], const T* in, int64_t stride, int64_t n) {
  std::memset(lanes, 0, sizeof lanes);
  for (int64_t k = 0; k < n; k++) lanes[k] = in[k * stride];
}
template <class T>
__attribute__((noinline)) void scatter_lanes(T* out, const T (&lanes)[kWidth], int64_t stride, int64_t n) {
  for (int64_t k = 0; k < n; k++) out[k * stride] = lanes[k];
}

template <class T>
inline void gather(T (&lanes)[kWidth], const T* in, int64_t stride, int64_t n) {
  if (stride == 1 && n == kWidth)
    __builtin_memcpy(lanes, in, sizeof lanes);
  else
    gather_lanes(lanes, in, stride, n);
}
template <class T>
inline void scatter(T* out, const T (&lanes)[kWidth], int64_t stride, int64_t n) {
  if (stride == 1 && n == kWidth)
    __builtin_memcpy(out, lanes, sizeof lanes);
  else
    scatter_lanes(out, lanes, stride, n);
}

template <class T>
constexpr bool kFloat = !std::is_integral_v<T>;

// A row of the same type on both sides is moved unchanged. The dispatch below ensures that such a type is an unsigned
// integer, whatever it holds, or that the row is to be added.
template <class To, class From>
void copy_row(To* out, int64_t out_stride, const From* in, int64_t in_stride, int64_t n, bool accumulate) {
  if constexpr (kFloat<To>) {
    if (accumulate) {
      for (int64_t i = 0; i < n; i += kWidth) {
        const int64_t count = min_of<int64_t>(kWidth, n - i);
        From from[kWidth];
        To to[kWidth];
        gather(from, in + i * in_stride, in_stride, count);
        gather(to, out + i * out_stride, out_stride, count);
        store(to, load(to) + load_f32(from));
        scatter(out + i * out_stride, to, out_stride, count);
      }
      return;
    }
  }
  if constexpr (std::is_same_v<To, From>) {
    if (out_stride == 1 && in_stride == 1)
      std::memcpy(out, in, static_cast<size_t>(n) * sizeof(To));
    else
      for (int64_t i = 0; i < n; i++) out[i * out_stride] = in[i * in_stride];
  } else {
    for (int64_t i = 0; i < n; i += kWidth) {
      const int64_t count = min_of<int64_t>(kWidth, n - i);
      From from[kWidth];
      To to[kWidth];
      gather(from, in + i * in_stride, in_stride, count);
      convert(to, from);
      scatter(out + i * out_stride, to, out_stride, count);
    }
  }
}

// Returns the dimension along which inp is contiguous while out's rows are not, or -1 if tiles would gain nothing.
int tiled_dimension(const Loop<2>& loop) {
  if (loop.stride(1) <= 1 || loop.row() < 8) return -1;
  for (int d = 0; d < loop.rank - 1; d++)
    if (loop.strides[1][d] == 1 && loop.shape[d] >= 8) return d;
  return -1;
}

// turned[r][c] = in[r + c · stride]. It is not inlined: one copy for each type, not one for each pair.
template <class T>
__attribute__((noinline)) void turn_tile(T (&turned)[kTile][kTile], const T* in, int64_t stride, int64_t rows,
                                         int64_t columns) {
  T read[kTile][kTile];
  if (rows == kTile && columns == kTile) {
    for (int64_t c = 0; c < kTile; c++) __builtin_memcpy(read[c], in + c * stride, sizeof read[c]);
  } else {
    std::memset(read, 0, sizeof read);
    for (int64_t c = 0; c < columns; c++)
      for (int64_t r = 0; r < rows; r++) read[c][r] = in[r + c * stride];
  }
  for (int64_t r = 0; r < kTile; r++)
    for (int64_t c = 0; c < kTile; c++) turned[r][c] = read[c][r];
}

// `inner` is the dimension of out's rows and `d` that of inp's; a loop over the other dimensions surrounds the tiles.
template <class To, class From>
void copy_tiled(To* out, const From* in, const Loop<2>& loop, int d, bool accumulate) {
  const int inner = loop.rank - 1;
  const int64_t across = loop.shape[d], along = loop.shape[inner];
  const int64_t across_tiles = ceil_div(across, kTile), along_tiles = ceil_div(along, kTile);
  Loop<2> outer;
  outer.rank = 0;
  for (int k = 0; k < inner; k++) {
    if (k == d) continue;
    const int to = outer.rank++;
    outer.size *= outer.shape[to] = loop.shape[k];
    for (int i = 0; i < 2; i++) outer.strides[i][to] = loop.strides[i][k];
  }
  outer.rank = max_of(outer.rank, 1);

  const auto tile = [&](To* to, const From* from, int64_t r0, int64_t c0) {
    const int64_t rows = min_of(kTile, across - r0), columns = min_of(kTile, along - c0);
    From turned[kTile][kTile];
    turn_tile(turned, from + r0 + c0 * loop.stride(1), loop.stride(1), rows, columns);
    to += r0 * loop.strides[0][d] + c0 * loop.stride(0);
    if (columns == kTile && loop.stride(0) == 1)  // known sizes, for which the compiler uses vector moves
      for (int64_t r = 0; r < rows; r++) copy_row(to + r * loop.strides[0][d], 1, turned[r], 1, kTile, accumulate);
    else
      for (int64_t r = 0; r < rows; r++)
        copy_row(to + r * loop.strides[0][d], loop.stride(0), turned[r], 1, columns, accumulate);
  };
  const int64_t per_matrix = across_tiles * along_tiles;
  parallel_for(outer.size * per_matrix, kGrain / (kTile * kTile), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      const int64_t k = t % per_matrix;
      int64_t index[kMaxRank], offsets[2];
      locate(outer, t / per_matrix, index, offsets);
      tile(out + offsets[0], in + offsets[1], k % across_tiles * kTile, k / across_tiles * kTile);
    }
  });
}

template <class To, class From>
void copy_all(void* out, const void* in, const Loop<2>& loop, bool accumulate) {
  To* to = static_cast<To*>(out);
  const From* from = static_cast<const From*>(in);
  const int d = tiled_dimension(loop);
  if (d >= 0) return copy_tiled(to, from, loop, d, accumulate);
  parallel_rows(loop, [&](const int64_t* offsets, int64_t n) {
    copy_row(to + offsets[0], loop.stride(0), from + offsets[1], loop.stride(1), n, accumulate);
  });
}

void run(const TensorView& out, const TensorView& inp, bool accumulate) {
  const Loop<2> loop = make_loop({&out, &inp});
  if (out.dtype == inp.dtype && !accumulate) {
    switch (size_of(out.dtype)) {
      case 1:
        return copy_all<uint8_t, uint8_t>(out.data, inp.data, loop, false);
      case 2:
        return copy_all<uint16_t, uint16_t>(out.data, inp.data, loop, false);
      default:
        return copy_all<uint32_t, uint32_t>(out.data, inp.data, loop, false);
    }
  }
  with_type(out.dtype, [&](auto to) {
    with_type(inp.dtype, [&](auto from) {
      using To = decltype(to);
      using From = decltype(from);
      if constexpr (!std::is_same_v<To, From> || kFloat<To>) copy_all<To, From>(out.data, inp.data, loop, accumulate);
    });
  });
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::copy(Stream& stream, Out out, In inp, Bool accumulate) {
  check_copy(out, inp, accumulate);
  if (out.empty()) return;
  stream.launch("copy", [out, inp, accumulate] { run(out, inp, accumulate); });
}

}  // namespace heed::cpu
