// Layer norm (Ba et al., "Layer normalization", 2016) and the RMS norm (Zhang and Sennrich, "Root mean square layer
// normalization", 2019) over rows of C elements, a residual add fused in.
//
// forward:  x = inp (+ residual), out = (x - mean) · rstd · weight + bias, rstd = 1/sqrt(var + eps), biased variance.
//           The RMS norm has no mean: out = x · rstd · weight + bias, rstd = 1/sqrt(mean(x²) + eps).
// backward: d = dout · weight, n = (x - mean) · rstd, dinp = rstd · (d - mean(d) - n · mean(d · n)) (+ dsum), the RMS
//           norm's without mean and mean(d); dweight = Σ_rows dout · n, dbias = Σ_rows dout. Needs x (`sum` where there
//           was a residual), mean, rstd.
// A row is read once from memory and then from cache. Rows run in parallel; the parameters' gradients are summed over
// fixed chunks of rows, then over chunks, so they do not depend on the threads. out, sum and dinp may be an input's
// memory.
#include "core/checks/layernorm.h"
#include "cpu/kernels/rows.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

// A first mean is rounded: with a mean of 1e4 by more than the result may be off. Centring on it is exact, and the mean
// of what is left corrects both the mean and the variance (Chan, Golub and LeVeque, 1983).
struct Moments {
  float shift, delta, rstd;  // mean = shift + delta
};

inline Moments moments(const float* x, int64_t C, float total, float eps) {
  const float shift = total / static_cast<float>(C);
  vf first[4] = {}, second[4] = {};
  over_row(C, [&](int64_t i, auto lanes, int u) {
    const vf c = lanes.keep(lanes.load(x + i) - set1(shift));
    first[u] += c;
    second[u] = fma(c, c, second[u]);
  });
  const float delta = hsum(first) / static_cast<float>(C);
  const float variance = max_of(hsum(second) / static_cast<float>(C) - delta * delta, 0.0f);
  return {shift, delta, 1.0f / std::sqrt(variance + eps)};
}

// Of the RMS norm: Σ x² without a mean to take off.
inline Moments root_mean_square(const float* x, int64_t C, float eps) {
  vf squares[4] = {};
  over_row(C, [&](int64_t i, auto lanes, int u) {
    const vf v = lanes.load(x + i);
    squares[u] = fma(v, v, squares[u]);
  });
  return {0, 0, 1.0f / std::sqrt(hsum(squares) / static_cast<float>(C) + eps)};
}

inline float total(const float* x, int64_t C) {
  vf sum[4] = {};
  over_row(C, [&](int64_t i, auto lanes, int u) { sum[u] += lanes.load(x + i); });
  return hsum(sum);
}

inline float add_total(float* sum, const float* a, const float* b, int64_t C) {
  vf parts[4] = {};
  over_row(C, [&](int64_t i, auto lanes, int u) {
    const vf s = lanes.load(a + i) + lanes.load(b + i);
    lanes.store(sum + i, s);
    parts[u] += s;
  });
  return hsum(parts);
}

inline void normalise(float* out, const float* x, const Moments& m, const float* weight, const float* bias, int64_t C) {
  const vf shift = set1(m.shift), rstd = set1(m.rstd), offset = set1(-m.delta * m.rstd);
  over_row(C, [&](int64_t i, auto lanes, int) {
    vf y = fma(lanes.load(x + i) - shift, rstd, offset);
    if (weight) y *= lanes.load(weight + i);
    if (bias) y += lanes.load(bias + i);
    lanes.store(out + i, y);
  });
}

struct Backward {
  float* dinp;
  const float *dout, *dsum, *inp, *weight, *mean, *rstd;  // mean is null in the RMS norm
  int64_t C;
  bool accumulate;

  // dw and db are this chunk's part of dweight and dbias, or null.
  void row(int64_t r, float* dw, float* db) const {
    const float* x = inp + r * C;
    const float* dy = dout + r * C;
    const float* add = dsum ? dsum + r * C : nullptr;
    float* dx = dinp + r * C;
    const vf mu = set1(mean ? mean[r] : 0.0f), scale = set1(rstd[r]);
    vf first[4] = {}, second[4] = {};
    over_row(C, [&](int64_t i, auto lanes, int u) {
      vf d = lanes.load(dy + i);
      if (weight) d *= lanes.load(weight + i);
      first[u] += d;
      second[u] = fma(d, (lanes.load(x + i) - mu) * scale, second[u]);
    });
    const vf mean_d = set1(mean ? hsum(first) / static_cast<float>(C) : 0.0f);
    const vf mean_dn = set1(hsum(second) / static_cast<float>(C));
    over_row(C, [&](int64_t i, auto lanes, int) {
      const vf g = lanes.load(dy + i), n = (lanes.load(x + i) - mu) * scale;
      if (dw) {
        lanes.store(dw + i, fma(g, n, lanes.load(dw + i)));
        lanes.store(db + i, g + lanes.load(db + i));
      }
      const vf d = weight ? g * lanes.load(weight + i) : g;
      vf result = (d - mean_d - n * mean_dn) * scale;
      if (add) result += lanes.load(add + i);
      if (accumulate) result += lanes.load(dx + i);
      lanes.store(dx + i, result);
    });
  }
};

// gradient[C] (+)= Σ_chunks partial[chunk]
inline void combine(float* gradient, const float* partials, int64_t chunks, int64_t stride, int64_t C,
                    bool accumulate) {
  parallel_for(C, 512, [=](int64_t begin, int64_t end) {
    over_row(end - begin, [&](int64_t i, auto lanes, int) {
      vf sum{};
      for (int64_t chunk = 0; chunk < chunks; chunk++) sum += lanes.load(partials + chunk * stride + begin + i);
      if (accumulate) sum += lanes.load(gradient + begin + i);
      lanes.store(gradient + begin + i, sum);
    });
  });
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::layernorm_forward(Stream& stream, Out out, OptOut sum, OptOut mean, OptOut rstd, In inp, OptIn residual,
                                 OptIn weight, OptIn bias, Float eps, Bool rms) {
  const char* op = "layernorm_forward";
  expect_rows(op, "inp", inp);
  const int64_t C = inp.dim(-1), rows = leading(inp).numel();
  check_layernorm_forward(op, out, sum, mean, rstd, inp, residual, weight, bias, eps, rms);
  if (rows == 0) return;

  const auto data = [](OptIn view) { return view ? view->f32() : nullptr; };
  float *y = out.f32(), *s = data(sum), *mu = data(mean), *rs = data(rstd);
  const float *x = inp.f32(), *r = data(residual), *w = data(weight), *b = data(bias);
  stream.launch(op, [=] {
    parallel_for(rows, rows_per_task(C), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        const float* row = r ? s + i * C : x + i * C;
        const float sum_of_row = r ? add_total(s + i * C, x + i * C, r + i * C, C) : rms ? 0.0f : total(row, C);
        const Moments m = rms ? root_mean_square(row, C, eps) : moments(row, C, sum_of_row, eps);
        normalise(y + i * C, row, m, w, b, C);
        if (mu) mu[i] = m.shift + m.delta;
        if (rs) rs[i] = m.rstd;
      }
    });
  });
}

void HEED_ISA::layernorm_backward(Stream& stream, Out dinp, OptOut dweight, OptOut dbias, In dout, OptIn dsum, In inp,
                                  OptIn weight, OptIn mean, In rstd, Bool accumulate_dinp, Bool accumulate_dweight,
                                  Bool accumulate_dbias) {
  const char* op = "layernorm_backward";
  expect_rows(op, "inp", inp);
  const int64_t C = inp.dim(-1), rows = leading(inp).numel();
  check_layernorm_backward(op, dinp, dweight, dbias, dout, dsum, inp, weight, mean, rstd);

  // At most 128 chunks, for balance; at least 16 rows in each, so that the parts are small beside what is read.
  const int64_t grain = max_of<int64_t>(16, ceil_div(rows, 128)), chunks = ceil_div(rows, grain), stride = 2 * C;
  const bool parameters = dweight || dbias;
  const Stream::Workspace workspace(stream, op, parameters ? static_cast<size_t>(chunks * stride) * sizeof(float) : 0);
  float *partials = workspace.f32(), *dw = dweight ? dweight->f32() : nullptr, *db = dbias ? dbias->f32() : nullptr;
  const Backward backward{dinp.f32(),
                          dout.f32(),
                          dsum ? dsum->f32() : nullptr,
                          inp.f32(),
                          weight ? weight->f32() : nullptr,
                          mean ? mean->f32() : nullptr,
                          rstd.f32(),
                          C,
                          accumulate_dinp};
  stream.launch(op, [=] {
    parallel_for(rows, grain, [=](int64_t begin, int64_t end) {
      float* part = partials ? partials + begin / grain * stride : nullptr;
      if (part) std::memset(part, 0, static_cast<size_t>(stride) * sizeof(float));
      for (int64_t r = begin; r < end; r++) backward.row(r, part, part ? part + C : nullptr);
    });
    if (dw) combine(dw, partials, chunks, stride, C, accumulate_dweight);
    if (db) combine(db, partials + C, chunks, stride, C, accumulate_dbias);
  });
}

}  // namespace heed::cpu
