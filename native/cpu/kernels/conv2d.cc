// conv2d (ops.def) and its gradients by image and by filter: products of patches of images, which are gathered when the
// matrix product packs them (gemm_pack_patches.h).
//
//   out[(b, y, x), n]     = patches(inp) · filter[(i, j, c), n]
//   dinp[(b, y, x), c]    = patches(dout) · filter[(i, j, n), c], for each phase of a stride (core/windows.h)
//   dfilter[(i, j, c), n] = patches(inp)ᵀ · dout[(b, y, x), n]
//
// A window of one tap that moves by single steps over images without padding has the images themselves as its patches,
// so that these are plain products. A row of out or dinp is summed in the order of K alone (gemm_words.h), so its bits
// do not depend on the images beside it. The sum over the places of a small filter's gradient is cut by images, so that
// threads can share it; the cut depends on the shapes only.
#include "cpu/kernels/conv2d.h"

#include "core/convolution.h"
#include "cpu/kernels/convert.h"
#include "cpu/kernels/sum_rows.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

// to[c][(i, j, n)] = filter[tap i of y, tap j of x, c, n]: a row for each column of the product, contiguous in K.
template <class T>
void take_taps(T* to, const T* filter, const Axis& y, const Axis& x, int64_t window_w, int64_t C, int64_t N) {
  const int64_t K = int64_t{y.taps} * x.taps * N;
  parallel_for(C, ceil_div(16384, K), [&](int64_t begin, int64_t end) {
    T* row = to + begin * K;
    for (int64_t c = begin; c < end; c++)
      for (int i = 0; i < y.taps; i++)
        for (int j = 0; j < x.taps; j++, row += N)
          std::memcpy(row, filter + ((y.tap_at(i) * window_w + x.tap_at(j)) * C + c) * N,
                      static_cast<size_t>(N) * sizeof(T));
  });
}

// dinp (+)= the phase's pixels, one after the other in `from`, each in its place; zeros if `from` is null.
template <class T>
void spread(const TensorView& dinp, const float* from, const Axis& y, const Axis& x, bool accumulate) {
  const int64_t H = dinp.shape[1], W = dinp.shape[2], C = dinp.shape[3];
  parallel_for(dinp.shape[0] * y.targets, ceil_div(16384, max_of<int64_t>(1, x.targets * C)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t row = begin; row < end; row++) {
                   const int64_t b = row / y.targets, at = y.target_at(static_cast<int>(row % y.targets));
                   T* const to = dinp.ptr<T>() + (b * H + at) * W * C;
                   for (int s = 0; s < x.targets; s++) {
                     T* const pixel = to + x.target_at(s) * C;
                     const float* const sums = from ? from + (row * x.targets + s) * C : nullptr;
                     for (int64_t c = 0; c < C; c += kWidth) {
                       vf v = sums ? load_upto(sums + c, C - c) : vf{};
                       if (accumulate) v += load_upto(pixel + c, C - c);
                       store_upto(pixel + c, v, C - c);
                     }
                   }
                 }
               });
}

// The greatest divisor of n up to `most`.
int64_t divisor(int64_t n, int64_t most) {
  int64_t result = min_of(n, most);
  while (n % result != 0) result--;
  return result;
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::conv2d(Stream& stream, Out out, In inp, In filter, OptIn bias, OptOut preact, Int activation,
                      Int stride_h, Int stride_w, Int pad_top, Int pad_left, Int dilation_h, Int dilation_w,
                      Bool accumulate) {
  const char* op = "conv2d";
  const WindowOptions o{stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w};
  check_convolution(op, out, inp, filter, bias, preact, activation, o, false);
  if (out.empty()) return;
  const TensorView rows = rows_of(out), taps = rows_of(filter);
  TensorView before;
  if (preact) before = rows_of(*preact);
  // Without channels or pixels there is nothing to sum, but the epilogue still applies: a product with a K of 0.
  if (convolves_pixels(inp, out, filter, o) || inp.empty()) {
    TensorView pixels = rows_of(inp), weight = taps;
    if (inp.empty()) {
      pixels = matrix_at(inp, inp.data, rows.shape[0], 0, 0, 1);
      weight = matrix_at(filter, filter.data, 0, rows.shape[1], rows.shape[1], 1);
    }
    gemm(stream, rows, nullptr, pixels, weight, bias, nullptr, preact ? &before : nullptr, nullptr, activation, false,
         accumulate, false, false, false);
    return;
  }
  PatchProduct product{forward_axis(inp.shape[1], out.shape[1], o.vertical(filter.shape[0])),
                       forward_axis(inp.shape[2], out.shape[2], o.horizontal(filter.shape[1])), &inp, &taps, &rows};
  product.bias = bias;
  product.preact = preact ? &before : nullptr;
  product.activation = static_cast<Activation>(activation);
  product.accumulate = accumulate;
  multiply_patches(stream, op, product);
}

void HEED_ISA::conv2d_input(Stream& stream, Out dinp, In dout, In filter, Int stride_h, Int stride_w, Int pad_top,
                            Int pad_left, Int dilation_h, Int dilation_w, Bool accumulate) {
  const char* op = "conv2d_input";
  const WindowOptions o{stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w};
  check_convolution_input(op, dinp, dout, filter, o, false);
  if (dinp.empty()) return;
  if (dout.empty()) {
    if (!accumulate) fill(stream, dinp, 0);
    return;
  }
  const TensorView rows = rows_of(dinp), pixels = rows_of(dout);
  if (convolves_pixels(dinp, dout, filter, o)) {
    const TensorView weight = transposed(rows_of(filter));
    gemm(stream, rows, nullptr, pixels, weight, nullptr, nullptr, nullptr, nullptr, 0, false, accumulate, false, false,
         false);
    return;
  }
  const int64_t C = dinp.shape[3], N = dout.shape[3], window_w = filter.shape[1];
  const int64_t phases_h = phases(dinp.shape[1], stride_h), phases_w = phases(dinp.shape[2], stride_w);
  const bool whole = phases_h * phases_w == 1;
  const Stream::Workspace taps(stream, op, static_cast<size_t>(filter.numel()) * size_of(filter.dtype));
  const int64_t largest = dinp.shape[0] * ceil_div(dinp.shape[1], stride_h) * ceil_div(dinp.shape[2], stride_w) * C;
  const Stream::Workspace sums(stream, op, whole ? 0 : static_cast<size_t>(largest) * sizeof(float));
  for (int64_t phase = 0; phase < phases_h * phases_w; phase++) {
    const Axis y = backward_axis(dinp.shape[1], dout.shape[1], o.vertical(filter.shape[0]), phase / phases_w);
    const Axis x = backward_axis(dinp.shape[2], dout.shape[2], o.horizontal(window_w), phase % phases_w);
    const int64_t K = int64_t{y.taps} * x.taps * N;
    if (K > 0) {
      stream.launch(op, [=, to = taps.data()] {
        with_float_type(filter.dtype, [&](auto type) {
          using T = decltype(type);
          take_taps(static_cast<T*>(to), filter.ptr<const T>(), y, x, window_w, C, N);
        });
      });
      const TensorView weight = matrix_at(filter, taps.data(), K, C, 1, K);
      TensorView to = rows;
      if (!whole) {
        to = matrix_at(dinp, sums.data(), dinp.shape[0] * y.targets * x.targets, C, C, 1);
        to.dtype = DType::f32;
      }
      PatchProduct product{y, x, &dout, &weight, &to};
      product.accumulate = whole && accumulate;
      multiply_patches(stream, op, product);
    }
    if ((K > 0 && whole) || (K == 0 && accumulate)) continue;
    stream.launch(op, [=, from = K > 0 ? sums.f32() : nullptr] {
      with_float_type(dinp.dtype, [&](auto type) { spread<decltype(type)>(dinp, from, y, x, accumulate); });
    });
  }
}

void HEED_ISA::conv2d_filter(Stream& stream, Out dfilter, In inp, In dout, Int stride_h, Int stride_w, Int pad_top,
                             Int pad_left, Int dilation_h, Int dilation_w, Bool accumulate) {
  const char* op = "conv2d_filter";
  const WindowOptions o{stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w};
  check_convolution_filter(op, dfilter, inp, dout, o, false);
  if (dfilter.empty()) return;
  if (dout.empty() || inp.empty()) {
    if (!accumulate) fill(stream, dfilter, 0);
    return;
  }
  const TensorView rows = rows_of(dfilter), pixels = rows_of(dout);
  if (convolves_pixels(inp, dout, dfilter, o)) {
    const TensorView images = transposed(rows_of(inp));
    gemm(stream, rows, nullptr, images, pixels, nullptr, nullptr, nullptr, nullptr, 0, false, accumulate, false, false,
         false);
    return;
  }
  PatchProduct product{forward_axis(inp.shape[1], dout.shape[1], o.vertical(dfilter.shape[0])),
                       forward_axis(inp.shape[2], dout.shape[2], o.horizontal(dfilter.shape[1])), &inp, &pixels, &rows};
  product.transposed = true;
  // Small enough that the sums of the parts cost little, and long enough that threads are worth it.
  constexpr int64_t kSmall = 16384, kLong = 4096, kParts = 16;
  const int64_t size = dfilter.numel();
  const int64_t parts = size <= kSmall && pixels.shape[0] >= kLong ? divisor(dout.shape[0], kParts) : 1;
  if (parts == 1) {
    product.accumulate = accumulate;
    return multiply_patches(stream, op, product);
  }
  const Stream::Workspace sums(stream, op, static_cast<size_t>(parts * size) * sizeof(float));
  const auto batched = [&](const TensorView& view, void* data, int64_t rows_of_part) {
    TensorView result = view;
    result.data = data;
    result.rank = 3;
    const int64_t columns = view.shape[1];
    const int64_t shape[] = {parts, rows_of_part, columns}, strides[] = {rows_of_part * columns, columns, 1};
    for (int i = 0; i < 3; i++) {
      result.shape[i] = shape[i];
      result.strides[i] = strides[i];
    }
    return result;
  };
  TensorView part_sums = batched(rows, sums.data(), rows.shape[0]);
  part_sums.dtype = DType::f32;
  const TensorView part_pixels = batched(pixels, pixels.data, pixels.shape[0] / parts);
  product.b = &part_pixels;
  product.out = &part_sums;
  multiply_patches(stream, op, product);
  sum_rows(stream, op, Floats(dfilter), Floats(part_sums), parts, size, size, 1, accumulate);
}

}  // namespace heed::cpu
