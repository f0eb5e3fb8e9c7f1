// scan (ops.def): cumulative sums and products along n of [outer, n, inner]. A task has some neighbouring lines of one
// outer index and goes along n with a running value of each, in f64, so that long sums lose nothing but the rounding of
// their results.
//
// Backward of a product, with E_i the product of the elements before i: dinp_i = E_i · S_i, where S_i = Σ_{j ≥ i}
// dout_j · Π_{i < k ≤ j} x_k = dout_i + x_{i+1} · S_{i+1}. So nothing is divided, and zeros are no special case. Of an
// exclusive product, S_i = dout_{i+1} + x_{i+1} · S_{i+1}.
#include "core/checks/scan.h"
#include "cpu/kernels/rows.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

constexpr int64_t kLines = 64;  // of a task

// Calls body(place of the first line's first element, number of lines).
template <class Body>
void over_lines(const TensorView& view, const Body& body) {
  const int64_t outer = view.shape[0], n = view.shape[1], inner = view.shape[2], blocks = ceil_div(inner, kLines);
  const int64_t lines = min_of(inner, kLines);
  parallel_for(outer * blocks, ceil_div(16384, n * lines), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t first = i % blocks * kLines;
      body(i / blocks * n * inner + first, min_of(kLines, inner - first));
    }
  });
}

// The places of the elements of a line in the order in which they are scanned.
struct Walk {
  int64_t first, step;
  Walk(int64_t n, int64_t inner, bool from_end)
      : first(from_end ? (n - 1) * inner : 0), step(from_end ? -inner : inner) {}
  int64_t at(int64_t i) const { return first + i * step; }
};

template <class T>
void scan_lines(const TensorView& out, const TensorView& inp, int64_t place, int64_t lines, bool product,
                bool exclusive, bool reverse, bool accumulate) {
  const int64_t n = inp.shape[1];
  const Walk walk(n, inp.shape[2], reverse);
  double total[kLines];
  float given[kLines], result[kLines];
  for (int64_t k = 0; k < lines; k++) total[k] = product ? 1 : 0;
  for (int64_t i = 0; i < n; i++) {
    convert_row(given, inp.ptr<const T>() + place + walk.at(i), lines);
    T* const to = out.ptr<T>() + place + walk.at(i);
    if (exclusive)
      for (int64_t k = 0; k < lines; k++) result[k] = static_cast<float>(total[k]);
    if (product)
      for (int64_t k = 0; k < lines; k++) total[k] *= static_cast<double>(given[k]);
    else
      for (int64_t k = 0; k < lines; k++) total[k] += static_cast<double>(given[k]);
    if (!exclusive)
      for (int64_t k = 0; k < lines; k++) result[k] = static_cast<float>(total[k]);
    if (accumulate) {
      convert_row(given, to, lines);
      for (int64_t k = 0; k < lines; k++) result[k] += given[k];
    }
    convert_row(to, result, lines);
  }
}

// `before` holds the products of the elements before each one.
template <class T>
void product_gradient(const TensorView& dinp, const TensorView& dout, const TensorView& inp, const double* before,
                      int64_t place, int64_t lines, bool exclusive, bool reverse, bool accumulate) {
  const int64_t n = inp.shape[1];
  const Walk walk(n, inp.shape[2], !reverse);  // against the scan
  double sum[kLines] = {};
  float x[kLines] = {}, dy[kLines] = {}, later[kLines] = {}, result[kLines];
  for (int64_t i = 0; i < n; i++) {
    const int64_t at = place + walk.at(i);
    convert_row(dy, dout.ptr<const T>() + at, lines);
    const float* const added = exclusive ? later : dy;
    for (int64_t k = 0; k < lines; k++) {
      sum[k] = static_cast<double>(added[k]) + static_cast<double>(x[k]) * sum[k];
      result[k] = static_cast<float>(before[at + k] * sum[k]);
    }
    std::memcpy(later, dy, sizeof later);
    convert_row(x, inp.ptr<const T>() + at, lines);
    T* const to = dinp.ptr<T>() + at;
    if (accumulate) {
      convert_row(dy, to, lines);
      for (int64_t k = 0; k < lines; k++) result[k] += dy[k];
    }
    convert_row(to, result, lines);
  }
}

// before[at] = the product of the elements before, in f64.
template <class T>
void products_before(double* before, const TensorView& inp, int64_t place, int64_t lines, bool reverse) {
  const int64_t n = inp.shape[1];
  const Walk walk(n, inp.shape[2], reverse);
  double total[kLines];
  float given[kLines];
  for (int64_t k = 0; k < lines; k++) total[k] = 1;
  for (int64_t i = 0; i < n; i++) {
    const int64_t at = place + walk.at(i);
    convert_row(given, inp.ptr<const T>() + at, lines);
    for (int64_t k = 0; k < lines; k++) {
      before[at + k] = total[k];
      total[k] *= static_cast<double>(given[k]);
    }
  }
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::scan(Stream& stream, Out out, In inp, Bool product, Bool exclusive, Bool reverse, Bool accumulate) {
  const char* op = "scan";
  check_scan(op, "out", out, "inp", inp);
  if (out.empty()) return;
  stream.launch(op, [=] {
    with_float_type(out.dtype, [&](auto type) {
      using T = decltype(type);
      over_lines(out, [&](int64_t place, int64_t lines) {
        scan_lines<T>(out, inp, place, lines, product, exclusive, reverse, accumulate);
      });
    });
  });
}

void HEED_ISA::scan_product_backward(Stream& stream, Out dinp, In dout, In inp, Bool exclusive, Bool reverse,
                                     Bool accumulate) {
  const char* op = "scan_product_backward";
  check_scan(op, "dinp", dinp, "inp", inp);
  check_scan(op, "dout", dout, "inp", inp);
  if (dinp.empty()) return;
  const Stream::Workspace products(stream, op, static_cast<size_t>(inp.numel()) * sizeof(double));
  stream.launch(op, [=, before = static_cast<double*>(products.data())] {
    with_float_type(inp.dtype, [&](auto type) {
      using T = decltype(type);
      over_lines(inp, [&](int64_t place, int64_t lines) {
        products_before<T>(before, inp, place, lines, reverse);
        product_gradient<T>(dinp, dout, inp, before, place, lines, exclusive, reverse, accumulate);
      });
    });
  });
}

}  // namespace heed::cpu
