// conv2d (ops.def) and its gradients by image and by filter, as products (gemm.cu) with the matrix of patches, of which
// a strip exists at a time:
//
//   out     = patches(inp) · filter
//   dfilter = patches(inp)ᵀ · dout
//   dinp    = the elements of dout · filterᵀ, which are patches, added up where they belong
//
// A strip has at most kStrip bytes, so that it is written to the L2 cache of a card and read from there: that traffic
// is the price for a product whose loads are copies of 16 bytes. The product rounds f32 to tf32 where that is allowed.
// Gradients by the image are gathered, so that nothing is added in an order that blocks decide; the patches of their
// sums are in f32. A window of one tap that moves by single steps over images without padding needs no patches.
//
// A row of out has the same bits whatever images are beside it, since strips cut rows only.
#include "cuda/kernels/windows.h"

#if !HEED_DEVICE_CODE
#include <algorithm>

#include "core/convolution.h"
#endif

namespace heed::cuda {

constexpr int kPatchRows = 8;  // of patches, for each thread

struct PatchParams {
  Axis y, x;
  int64_t channels, stride;  // of the images; elements from one row of patches to the next
  void* patches;
  const void* images;
  unsigned first, rows;  // of the strip
};

// Targets are the elements of some images of dinp.
struct UnpatchParams {
  Targets targets;
  int window_h, window_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w, places_h, places_w;
  void* dinp;
  const float* patches;  // [images, places_h, places_w, window_h, window_w, channels]
  bool accumulate;
};

#if HEED_DEVICE_CODE

// `Bits` is an integer of the size of an element.
template <class Bits>
__device__ void gather_patches_body(const PatchParams& p) {
  const int64_t element = static_cast<int64_t>(blockIdx.x) * kWindowThreads + threadIdx.x;
  if (element >= p.stride) return;
  const int64_t tap = element / p.channels, channel = element % p.channels;
  const int i = static_cast<int>(tap / p.x.taps), j = static_cast<int>(tap % p.x.taps);
  const int64_t begin = block_y() * kPatchRows;
#pragma unroll
  for (int k = 0; k < kPatchRows; k++) {
    const int64_t row = begin + k;
    if (row >= p.rows) return;
    const unsigned place = p.first + static_cast<unsigned>(row), rest = place / p.x.targets;
    const int at_x = p.x.at(static_cast<int>(place % p.x.targets), j);
    const int at_y = p.y.at(static_cast<int>(rest % p.y.targets), i);
    const int64_t image = rest / p.y.targets;
    Bits value = 0;
    // The rows may have a margin of zeros, which no tap reads.
    if (i < p.y.taps && p.y.inside(at_y) && p.x.inside(at_x))
      value =
          static_cast<const Bits*>(p.images)[((image * p.y.source + at_y) * p.x.source + at_x) * p.channels + channel];
    static_cast<Bits*>(p.patches)[row * p.stride + element] = value;
  }
}

template <class T>
__device__ void add_patches_body(const UnpatchParams& p) {
  const Targets& t = p.targets;
  const Target target(t);
  if (!target.exists) return;
  float sum = 0;
  for (int i = 0; i < p.window_h; i++) {
    const int down = target.row + p.pad_top - i * p.dilation_h;
    if (down < 0 || down % p.stride_h != 0 || down / p.stride_h >= p.places_h) continue;
    const int64_t row = static_cast<int64_t>(target.image) * p.places_h + down / p.stride_h;
    for (int j = 0; j < p.window_w; j++) {
      const int right = target.column + p.pad_left - j * p.dilation_w;
      if (right < 0 || right % p.stride_w != 0 || right / p.stride_w >= p.places_w) continue;
      const int64_t place = row * p.places_w + right / p.stride_w;
      const int64_t tap = place * p.window_h * p.window_w + i * p.window_w + j;
      sum += p.patches[tap * t.channels + target.channel];
    }
  }
  put(static_cast<T*>(p.dinp) + place_of(t, target, t.y.targets, t.x.targets), sum, p.accumulate);
}

#endif

HEED_KERNEL(gather_patches_32, PatchParams, kWindowThreads, 1, gather_patches_body<uint32_t>)
HEED_KERNEL(gather_patches_16, PatchParams, kWindowThreads, 1, gather_patches_body<uint16_t>)
HEED_KERNEL_FLOATS(add_patches_kernel, UnpatchParams, kWindowThreads, 1, add_patches_body)

#if !HEED_DEVICE_CODE

namespace {

constexpr int64_t kStrip = int64_t{16} << 20;  // bytes of a strip of patches
constexpr int64_t kLeastRows = 128;            // of a strip: a tile of the product

// The patches of images, of which `gather` writes a strip.
class PatchStrips {
 public:
  PatchStrips(Stream& stream, const char* op, const TensorView& images, const TensorView& places,
              const TensorView& filter, const WindowOptions& o)
      : rows(places.shape[0] * places.shape[1] * places.shape[2]),
        stream_(stream),
        op_(op),
        images_(images),
        y_(forward_axis(images.shape[1], places.shape[1], o.vertical(filter.shape[0]))),
        x_(forward_axis(images.shape[2], places.shape[2], o.horizontal(filter.shape[1]))),
        K_(filter.shape[0] * filter.shape[1] * images.shape[3]),
        stride_(ceil_div(K_, 8) * 8),  // 16 bytes in every dtype
        strip(std::min(rows, std::max(kLeastRows, kStrip / (stride_ * static_cast<int64_t>(size_of(images.dtype))) /
                                                      kLeastRows * kLeastRows))),
        memory_(stream, op, static_cast<size_t>(strip * stride_) * size_of(images.dtype)) {}

  // Enqueues the patches of rows [first, first + count) and returns them, [count, K].
  TensorView gather(int64_t first, int64_t count) const {
    const PatchParams p{y_,
                        x_,
                        images_.shape[3],
                        stride_,
                        memory_.as<void>(),
                        images_.data,
                        static_cast<unsigned>(first),
                        static_cast<unsigned>(count)};
    stream_.launch(op_, images_.dtype == DType::f32 ? gather_patches_32 : gather_patches_16,
                   tall_grid(ceil_div(stride_, kWindowThreads), ceil_div(count, kPatchRows)), p);
    return matrix_at(images_, memory_.as<void>(), count, K_, stride_, 1);
  }

  const int64_t rows;

 private:
  Stream& stream_;
  const char* const op_;
  const TensorView& images_;
  const Axis y_, x_;
  const int64_t K_, stride_;

 public:
  const int64_t strip;  // rows of a strip, but for the last one

 private:
  const Stream::Workspace memory_;
};

// Returns rows [first, first + count) of a matrix without gaps.
TensorView some_rows(const TensorView& matrix, int64_t first, int64_t count) {
  char* const data =
      static_cast<char*>(matrix.data) + first * matrix.shape[1] * static_cast<int64_t>(size_of(matrix.dtype));
  return matrix_at(matrix, data, count, matrix.shape[1], matrix.shape[1], 1);
}

void multiply(Stream& stream, Out out, In a, In b, bool accumulate) {
  host::gemm(stream, out, nullptr, a, b, nullptr, nullptr, nullptr, nullptr, 0, false, accumulate, false, false, false);
}

}  // namespace

void host::conv2d(Stream& stream, Out out, In inp, In filter, OptIn bias, OptOut preact, Int activation, Int stride_h,
                  Int stride_w, Int pad_top, Int pad_left, Int dilation_h, Int dilation_w, Bool accumulate) {
  const char* op = "conv2d";
  const WindowOptions o{stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w};
  check_convolution(op, out, inp, filter, bias, preact, activation, o, false);
  if (out.empty()) return;
  const TensorView rows = rows_of(out), weight = rows_of(filter), before = preact ? rows_of(*preact) : TensorView();
  const auto product = [&](const TensorView& a, const TensorView& b, int64_t first) {
    const int64_t count = a.shape[0];
    const TensorView to = some_rows(rows, first, count);
    const TensorView kept = preact ? some_rows(before, first, count) : TensorView();
    gemm(stream, to, nullptr, a, b, bias, nullptr, preact ? &kept : nullptr, nullptr, activation, false, accumulate,
         false, false, false);
  };
  if (inp.empty())  // nothing to sum, but the epilogue still applies
    return product(matrix_at(inp, inp.data, rows.shape[0], 0, 0, 1),
                   matrix_at(filter, filter.data, 0, rows.shape[1], rows.shape[1], 1), 0);
  if (convolves_pixels(inp, out, filter, o)) return product(rows_of(inp), weight, 0);
  const PatchStrips patches(stream, op, inp, out, filter, o);
  for (int64_t first = 0; first < patches.rows; first += patches.strip)
    product(patches.gather(first, std::min(patches.strip, patches.rows - first)), weight, first);
}

void host::conv2d_input(Stream& stream, Out dinp, In dout, In filter, Int stride_h, Int stride_w, Int pad_top,
                        Int pad_left, Int dilation_h, Int dilation_w, Bool accumulate) {
  const char* op = "conv2d_input";
  const WindowOptions o{stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w};
  check_convolution_input(op, dinp, dout, filter, o, false);
  if (dinp.empty()) return;
  if (dout.empty()) {
    if (!accumulate) fill(stream, dinp, 0);
    return;
  }
  const TensorView pixels = rows_of(dout), weight = transposed(rows_of(filter));
  if (convolves_pixels(dinp, dout, filter, o)) return multiply(stream, rows_of(dinp), pixels, weight, accumulate);
  // Strips of whole images.
  const int64_t B = dinp.shape[0], H = dinp.shape[1], W = dinp.shape[2], C = dinp.shape[3];
  const int64_t of_image = dout.shape[1] * dout.shape[2], K = weight.shape[1];
  const int64_t strip = std::min(B, std::max<int64_t>(1, kStrip / (of_image * K * int64_t{sizeof(float)})));
  const Stream::Workspace memory(stream, op, static_cast<size_t>(strip * of_image * K) * sizeof(float));
  // Every element of dinp is a target, once.
  const Axis y = forward_axis(H, H, {1, 1, 0, 1}), x = forward_axis(W, W, {1, 1, 0, 1});
  for (int64_t first = 0; first < B; first += strip) {
    const int64_t images = std::min(strip, B - first);
    TensorView patches = matrix_at(dinp, memory.f32(), images * of_image, K, K, 1);
    patches.dtype = DType::f32;
    multiply(stream, patches, some_rows(pixels, first * of_image, images * of_image), weight, false);
    const Targets targets(y, x, images, C);
    const auto number = [](int64_t value) { return static_cast<int>(value); };
    const UnpatchParams p{targets,
                          number(filter.shape[0]),
                          number(filter.shape[1]),
                          number(stride_h),
                          number(stride_w),
                          number(pad_top),
                          number(pad_left),
                          number(dilation_h),
                          number(dilation_w),
                          number(dout.shape[1]),
                          number(dout.shape[2]),
                          some_rows(rows_of(dinp), first * H * W, images * H * W).data,
                          memory.f32(),
                          accumulate};
    stream.launch(op, add_patches_kernel(dinp.dtype), targets.grid(), p);
  }
}

void host::conv2d_filter(Stream& stream, Out dfilter, In inp, In dout, Int stride_h, Int stride_w, Int pad_top,
                         Int pad_left, Int dilation_h, Int dilation_w, Bool accumulate) {
  const char* op = "conv2d_filter";
  const WindowOptions o{stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w};
  check_convolution_filter(op, dfilter, inp, dout, o, false);
  if (dfilter.empty()) return;
  if (dout.empty() || inp.empty()) {
    if (!accumulate) fill(stream, dfilter, 0);
    return;
  }
  const TensorView out = rows_of(dfilter), pixels = rows_of(dout);
  if (convolves_pixels(inp, dout, dfilter, o))
    return multiply(stream, out, transposed(rows_of(inp)), pixels, accumulate);
  const PatchStrips patches(stream, op, inp, dout, dfilter, o);
  // Sums of several strips are kept in f32 until they are complete.
  const bool in_place = dfilter.dtype == DType::f32 || patches.rows <= patches.strip;
  const Stream::Workspace sums(stream, op, in_place ? 0 : static_cast<size_t>(dfilter.numel()) * sizeof(float));
  TensorView to = out;
  if (!in_place) {
    to.data = sums.f32();
    to.dtype = DType::f32;
  }
  for (int64_t first = 0; first < patches.rows; first += patches.strip) {
    const int64_t count = std::min(patches.strip, patches.rows - first);
    multiply(stream, to, transposed(patches.gather(first, count)), some_rows(pixels, first, count),
             first > 0 || (in_place && accumulate));
  }
  if (!in_place) copy(stream, out, to, accumulate);
}

#endif

}  // namespace heed::cuda
