// Layer norm (Ba et al., "Layer normalization", 2016) and the RMS norm (Zhang and Sennrich, "Root mean square layer
// normalization", 2019) over rows of C elements, with a fused residual addition.
//
// forward:  x = inp (+ residual), out = (x - mean) · rstd · weight + bias, rstd = 1/sqrt(var + eps), biased variance.
//           The RMS norm has no mean: out = x · rstd · weight + bias, rstd = 1/sqrt(mean(x²) + eps).
// backward: d = dout · weight, n = (x - mean) · rstd, dinp = rstd · (d - mean(d) - n · mean(d · n)) (+ dsum), for the
// RMS
//           norm without mean and mean(d); dweight = Σ_rows dout · n, dbias = Σ_rows dout. It needs x (`sum` if there
//           was a residual), mean and rstd.
//
// A row is read once from memory and then from cache, while the next one is fetched. Forward widens it once, and leaves
// it in f32 for its next passes unless it is very long. Rows run in parallel. Backward takes a few rows together, so
// that the gradients of the parameters are read and written once for all of them. Those are summed over fixed chunks of
// rows and then over chunks, so they do not depend on the threads. out, sum and dinp may be an input's memory.
#include "core/checks/layernorm.h"
#include "cpu/kernels/rows.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

// Returns a parameter in f32: its own memory, or `room`, into which it is widened.
const float* widened(const TensorView* parameter, float* room) {
  if (!parameter || parameter->dtype == DType::f32) return parameter ? parameter->f32() : nullptr;
  with_float_type(parameter->dtype,
                  [&](auto type) { convert_row(room, parameter->ptr<decltype(type)>(), parameter->numel()); });
  return room;
}
// A view that may be absent, in the form that a kernel keeps.
struct Optional {
  TensorView view;
  bool given;
  explicit Optional(const TensorView* from) : view(from ? *from : TensorView{}), given(from != nullptr) {}
  const TensorView* get() const { return given ? &view : nullptr; }
};
bool is_short(const TensorView* parameter) { return parameter && parameter->dtype != DType::f32; }

inline void prefetch(const void* p) { __builtin_prefetch(p); }

// The row that is normalised: inp, or inp + residual, of which nothing is rounded in between.
template <class T>
struct Row {
  const T *inp, *residual;
  template <class Lanes>
  vf load(int64_t i, Lanes lanes) const {
    const vf x = lanes.load(inp + i);
    return residual ? x + lanes.load(residual + i) : x;
  }
};

// A first mean is rounded: with a mean of 1e4, its error exceeds the error that the result may have. Centring on it is
// exact, and the mean of the rest corrects both the mean and the variance (Chan, Golub and LeVeque, 1983).
struct Moments {
  float shift, delta, rstd;  // mean = shift + delta
};

template <class T>
inline Moments moments(const Row<T>& x, float shift, int64_t C, float eps) {
  vf first[4] = {}, second[4] = {};
  over_row(C, [&](int64_t i, auto lanes, int u) {
    const vf c = lanes.keep(x.load(i, lanes) - set1(shift));
    first[u] += c;
    second[u] = fma(c, c, second[u]);
  });
  const float delta = hsum(first) / static_cast<float>(C);
  const float variance = max_of(hsum(second) / static_cast<float>(C) - delta * delta, 0.0f);
  return {shift, delta, 1.0f / std::sqrt(variance + eps)};
}

// The moments of the RMS norm: Σ x² without subtracting a mean.
inline Moments root_mean_square(const vf (&squares)[4], int64_t C, float eps) {
  return {0, 0, 1.0f / std::sqrt(hsum(squares) / static_cast<float>(C) + eps)};
}

template <class T>
struct Forward {
  T *out, *sum;
  float *mean, *rstd;
  const T *inp, *residual;
  const float *weight, *bias;
  int64_t C;
  float eps;
  bool rms;

  static constexpr int64_t kRoom = 4096;  // numbers of a row that is kept in f32

  void row(int64_t r) const { rms ? row<true>(r) : row<false>(r); }

  template <bool of_squares>
  void row(int64_t r) const {
    const Row<T> x{inp + r * C, residual ? residual + r * C : nullptr};
    alignas(64) float room[kRoom];
    float* const kept = C <= kRoom && !std::is_same_v<T, float> ? room : nullptr;
    vf total[4] = {};  // of x, or of its squares
    over_row(C, [&](int64_t i, auto lanes, int u) {
      const vf v = x.load(i, lanes);
      if (kept) store(kept + i, v);
      total[u] = of_squares ? fma(v, v, total[u]) : total[u] + v;
    });
    if (kept)
      finish<of_squares>(r, Row<float>{kept, nullptr}, total);
    else
      finish<of_squares>(r, x, total);
  }

  // Computes row r from x and from the total of its first pass.
  template <bool of_squares, class From>
  void finish(int64_t r, const Row<From>& x, const vf (&total)[4]) const {
    T *y = out + r * C, *s = residual ? sum + r * C : nullptr;
    const T *next = inp + (r + 1) * C, *next_residual = residual ? residual + (r + 1) * C : nullptr;
    const Moments m =
        of_squares ? root_mean_square(total, C, eps) : moments(x, hsum(total) / static_cast<float>(C), C, eps);
    // These are copies, which the stores cannot change, so they stay in registers.
    const vf shift = set1(m.shift), scale = set1(m.rstd), offset = set1(-m.delta * m.rstd);
    const float *w = weight, *b = bias;
    const auto normalised = [=](vf v, int64_t i, auto lanes) {
      vf n = fma(v - shift, scale, offset);
      if (w) n *= lanes.load(w + i);
      if (b) n += lanes.load(b + i);
      return n;
    };
    const auto prefetch_two = [](const T* p) {
      prefetch(p);
      if constexpr (sizeof(T) == sizeof(float)) prefetch(p + kWidth);
    };
    const WholeVector whole;
    int64_t i = 0;
    for (; i + 2 * kWidth <= C; i += 2 * kWidth) {
      prefetch_two(next + i);
      const vf first = x.load(i, whole), second = x.load(i + kWidth, whole);
      if (s) {
        prefetch_two(next_residual + i);
        store_both(s + i, first, second);
      }
      store_both(y + i, normalised(first, i, whole), normalised(second, i + kWidth, whole));
    }
    over_vectors(C - i, [=](int64_t at, auto lanes) {
      const vf v = x.load(i + at, lanes);
      if (s) lanes.store(s + i + at, v);
      lanes.store(y + i + at, normalised(v, i + at, lanes));
    });
    if (mean) mean[r] = m.shift + m.delta;
    if (rstd) rstd[r] = m.rstd;
  }
};

constexpr int kRows = 4;  // rows that backward takes together

template <class T>
struct Backward {
  T* dinp;
  const T *dout, *dsum, *inp;
  const float *weight, *mean, *rstd;  // mean is null for the RMS norm
  int64_t C;
  bool accumulate;

  // Computes rows [r, r + n). dw and db are this chunk's part of dweight and dbias, or null.
  template <int n>
  void rows(int64_t r, float* dw, float* db) const {
    // These are copies, which the stores cannot change, so they stay in registers.
    const int64_t row = C;
    const T *x = inp + r * row, *dy = dout + r * row, *add = dsum ? dsum + r * row : nullptr;
    T* dx = dinp + r * row;
    const float* w = weight;
    const bool adds = accumulate;
    vf mu[n], scale[n], mean_d[n], mean_dn[n];
    for (int k = 0; k < n; k++) {
      const vf m = mu[k] = set1(mean ? mean[r + k] : 0.0f), s = scale[k] = set1(rstd[r + k]);
      vf first[4] = {}, second[4] = {};
      over_row(row, [&](int64_t i, auto lanes, int u) {
        vf d = lanes.load(dy + k * row + i);
        if (w) d *= lanes.load(w + i);
        first[u] += d;
        second[u] = fma(d, (lanes.load(x + k * row + i) - m) * s, second[u]);
      });
      mean_d[k] = set1(mean ? hsum(first) / static_cast<float>(C) : 0.0f);
      mean_dn[k] = set1(hsum(second) / static_cast<float>(C));
    }
    over_vectors(row, [=](int64_t i, auto lanes) {
      const vf factor = w ? lanes.load(w + i) : set1(1.0f);
      vf to_weight{}, to_bias{};
      for (int k = 0; k < n; k++) {
        const int64_t at = k * row + i;
        prefetch(x + n * row + at);
        prefetch(dy + n * row + at);
        const vf g = lanes.load(dy + at), norm = (lanes.load(x + at) - mu[k]) * scale[k];
        to_weight = fma(g, norm, to_weight);
        to_bias += g;
        vf result = (g * factor - mean_d[k] - norm * mean_dn[k]) * scale[k];
        if (add) result += lanes.load(add + at);
        if (adds) result += lanes.load(dx + at);
        lanes.store(dx + at, result);
      }
      if (dw) {
        lanes.store(dw + i, lanes.load(dw + i) + to_weight);
        lanes.store(db + i, lanes.load(db + i) + to_bias);
      }
    });
  }

  void rows(int64_t begin, int64_t end, float* dw, float* db) const {
    for (; begin + kRows <= end; begin += kRows) rows<kRows>(begin, dw, db);
    for (; begin < end; begin++) rows<1>(begin, dw, db);
  }
};

// gradient[C] (+)= Σ_chunks partial[chunk]
void combine(const TensorView& gradient, const float* partials, int64_t chunks, int64_t stride, bool accumulate) {
  with_float_type(gradient.dtype, [&](auto type) {
    auto* const out = gradient.ptr<decltype(type)>();
    parallel_for(gradient.numel(), 512, [=](int64_t begin, int64_t end) {
      over_row(end - begin, [&](int64_t i, auto lanes, int) {
        vf sum{};
        for (int64_t chunk = 0; chunk < chunks; chunk++) sum += lanes.load(partials + chunk * stride + begin + i);
        if (accumulate) sum += lanes.load(out + begin + i);
        lanes.store(out + begin + i, sum);
      });
    });
  });
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::layernorm_forward(Stream& stream, Out out, OptOut sum, OptOut mean, OptOut rstd, In inp, OptIn residual,
                                 OptIn weight, OptIn bias, Float eps, Bool rms) {
  const char* op = "layernorm_forward";
  check_layernorm_forward(op, out, sum, mean, rstd, inp, residual, weight, bias, eps, rms);
  const int64_t C = inp.dim(-1), rows = leading_shape(inp).numel();
  if (rows == 0) return;

  const int64_t short_parameters = is_short(weight) + is_short(bias);
  const Stream::Workspace workspace(stream, op, static_cast<size_t>(short_parameters * C) * sizeof(float));
  const Optional w(weight), b(bias);
  with_float_type(inp.dtype, [&](auto type) {
    using T = decltype(type);
    const auto data = [](OptIn view) { return view ? view->ptr<T>() : nullptr; };
    const auto floats = [](OptIn view) { return view ? view->f32() : nullptr; };
    const Forward<T> call{out.ptr<T>(), data(sum), floats(mean), floats(rstd), inp.ptr<T>(), data(residual), nullptr,
                          nullptr,      C,         eps,          rms};
    stream.launch(op, [=, room = workspace.f32()] {
      Forward<T> forward = call;
      forward.weight = widened(w.get(), room);
      forward.bias = widened(b.get(), is_short(w.get()) ? room + C : room);
      parallel_for(rows, rows_per_task(C), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; r++) forward.row(r);
      });
    });
  });
}

void HEED_ISA::layernorm_backward(Stream& stream, Out dinp, OptOut dweight, OptOut dbias, In dout, OptIn dsum, In inp,
                                  OptIn weight, OptIn mean, In rstd, Bool accumulate_dinp, Bool accumulate_dweight,
                                  Bool accumulate_dbias) {
  const char* op = "layernorm_backward";
  check_layernorm_backward(op, dinp, dweight, dbias, dout, dsum, inp, weight, mean, rstd);
  const int64_t C = inp.dim(-1), rows = leading_shape(inp).numel();

  // There are at most 64 chunks, for balance, and at least 16 rows in each, so that the parts are small compared with
  // the reads.
  const int64_t grain = ceil_div(max_of<int64_t>(16, ceil_div(rows, 64)), kRows) * kRows;
  const int64_t chunks = ceil_div(rows, grain), stride = 2 * C, parts = dweight || dbias ? chunks * stride : 0;
  const Stream::Workspace workspace(stream, op, static_cast<size_t>(parts + is_short(weight) * C) * sizeof(float));
  const Optional w(weight), dw(dweight), db(dbias);
  with_float_type(inp.dtype, [&](auto type) {
    using T = decltype(type);
    const Backward<T> call{dinp.ptr<T>(),
                           dout.ptr<T>(),
                           dsum ? dsum->ptr<T>() : nullptr,
                           inp.ptr<T>(),
                           nullptr,
                           mean ? mean->f32() : nullptr,
                           rstd.f32(),
                           C,
                           accumulate_dinp};
    stream.launch(op, [=, partials = workspace.f32()] {
      Backward<T> backward = call;
      backward.weight = widened(w.get(), partials + parts);
      parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
        float* part = parts ? partials + begin / grain * stride : nullptr;
        if (part) std::memset(part, 0, static_cast<size_t>(stride) * sizeof(float));
        backward.rows(begin, end, part, part ? part + C : nullptr);
      });
      if (dw.get()) combine(*dw.get(), partials, chunks, stride, accumulate_dweight);
      if (db.get()) combine(*db.get(), partials + C, chunks, stride, accumulate_dbias);
    });
  });
}

}  // namespace heed::cpu
