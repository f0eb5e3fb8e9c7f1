// linear_attention: out_t = q_t^T S_t with S_t = decay · S_{t-1} + k_t v_t^T (Katharopoulos et al. 2020, eq. 18-20;
// with a decay it is RetNet, Sun et al. 2023). It goes over chunks of n tokens. Within a chunk it is masked attention
// without a softmax; the tokens before the chunk act through the state.
//   out = (Q K^T ∘ M) V + P Q S,   S' = decay^n S + K^T R V,
// where M is the lower triangle of decay^(i-j), P the diagonal of decay^(i+1), and R the diagonal of decay^(n-1-j). The
// work grows with T · (n · (D + Dv) + 2 · D · Dv). Sums of a chunk are added to the state, which rounds less than
// adding token by token.
//
// The work is parallel over heads and, if those are too few, over columns of v, whose states are independent. The
// operation is its own backward (ops.def). In reverse, steps count from the last token: strides are negative.
#include "core/checks/linear_attention.h"

#include "cpu/kernels/attention_tile.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

constexpr int64_t kChunk = kBlockQueries;
constexpr int64_t kStair = 16;  // rows of a chunk that see the same number of whole vectors of keys

struct Linear {
  TensorView out, q, k, v;
  const float *initial, *decay;  // or null
  float* final_state;            // or null
  LinearAttentionSizes n;
  bool reverse;
  int64_t columns, splits;  // columns of v of an item (whole vectors); items of a head

  int64_t token(int64_t step) const { return reverse ? n.T - 1 - step : step; }
  int64_t stride(const TensorView& x) const { return reverse ? -x.strides[1] : x.strides[1]; }
  char* row(const TensorView& x, int64_t b, int64_t h, int64_t step, int64_t column = 0) const {
    return x.ptr<char>() + (b * x.strides[0] + token(step) * x.strides[1] + h * x.strides[2] + column) *
                               static_cast<int64_t>(size_of(x.dtype));
  }
  // Returns rows [step, step + count) of q or k: in place if they are f32, otherwise in `copy`.
  WordRows rows(const TensorView& x, int64_t b, int64_t h, int64_t step, int64_t count, float* copy) const {
    if (x.dtype == DType::f32) return {reinterpret_cast<const float*>(row(x, b, h, step)), stride(x)};
    pack_rows<F32Words>(copy, count, x.dtype, n.D, [&](int64_t i) { return row(x, b, h, step + i); });
    return {copy, padded_words<F32Words>(n.D)};
  }
  int64_t scratch() const {
    return Scratch::rounded(n.D * columns) + 2 * Scratch::rounded(kChunk * columns) +
           Scratch::rounded(n.D * kBlockQueries) + Scratch::rounded(kChunk * kChunk) +
           2 * Scratch::rounded(kChunk * padded_words<F32Words>(n.D));
  }
};

void scale_rows(float* rows, int64_t n, int64_t width, const float* factors) {
  for (int64_t i = 0; i < n; i++)
    for (int64_t c = 0; c < width; c += kWidth)
      store(rows + i * width + c, load(rows + i * width + c) * set1(factors[i]));
}

void run_head(const Linear& f, int64_t b, int64_t h, int64_t first_column, Scratch scratch) {
  const int64_t D = f.n.D, count = min_of(f.columns, f.n.Dv - first_column), width = f.columns;
  float* state = scratch.take(D * width);        // [D, width]
  float* v = scratch.take(kChunk * width);       // [n, width]
  float* out = scratch.take(kChunk * width);     // [n, width]
  float* k_t = scratch.take(D * kBlockQueries);  // [D, n]
  float* weights = scratch.take(kChunk * kChunk);
  float* q_copy = scratch.take(kChunk * padded_words<F32Words>(D));
  float* k_copy = scratch.take(kChunk * padded_words<F32Words>(D));
  const auto state_row = [&](auto* states, int64_t d) {
    return states + ((b * f.n.H + h) * D + d) * f.n.Dv + first_column;
  };
  __builtin_memset(state, 0, static_cast<size_t>(D * width) * 4);
  if (f.initial)
    for (int64_t d = 0; d < D; d++) copy_row(state + d * width, state_row(f.initial, d), count, 1, true);
  const bool decays = f.decay != nullptr;
  float powers[kChunk + 1], carried[kChunk], left[kChunk];  // powers of the decay with exponents n, i + 1 and n - 1 - i
  double power = 1;
  for (int64_t i = 0; i <= kChunk; i++, power *= decays ? f.decay[h] : 1) powers[i] = static_cast<float>(power);

  for (int64_t step = 0; step < f.n.T; step += kChunk) {
    const int64_t n = min_of(kChunk, f.n.T - step);
    const WordRows q = f.rows(f.q, b, h, step, n, q_copy), k = f.rows(f.k, b, h, step, n, k_copy);
    const char* k_rows[kChunk];
    for (int64_t i = 0; i < n; i++) {
      k_rows[i] = f.row(f.k, b, h, step + i);
      read_row(v + i * width, f.row(f.v, b, h, step + i, first_column), f.v.dtype, count, 1);
      for (int64_t c = ceil_div(count, kWidth) * kWidth; c < width; c += kWidth) store(v + i * width + c, vf{});
      carried[i] = powers[i + 1];
      left[i] = powers[n - 1 - i];
    }
    product(n, width / kWidth, D, q.words, q.ld, 1, state, width, out, width, Sums::written);
    if (decays) scale_rows(out, n, width, carried);
    pack_transposed<F32Words>(k_t, k_rows, n, f.k.dtype, D, 1);
    for (int64_t i = 0; i < n; i += kStair) {
      const int64_t rows = min_of(kStair, n - i), keys = i + rows;
      float* stair = weights + i * kChunk;
      product(rows, ceil_div(keys, kWidth), D, q.from(i).words, q.ld, 1, k_t, kBlockQueries, stair, kChunk,
              Sums::written);
      for (int64_t r = 0; r < rows; r++) {
        if (decays)
          for (int64_t j = 0; j <= i + r; j++) stair[r * kChunk + j] *= powers[i + r - j];
        for (int64_t j = i + r + 1; j < keys; j++) stair[r * kChunk + j] = 0;
      }
      product(rows, width / kWidth, keys, stair, kChunk, 1, v, width, out + i * width, width, Sums::added);
    }
    for (int64_t i = 0; i < n; i++)
      write_row(f.row(f.out, b, h, step + i, first_column), f.out.dtype, out + i * width, count, 1);
    if (decays) {
      scale_rows(v, n, width, left);
      for (int64_t i = 0; i < D * width; i += kWidth) store(state + i, load(state + i) * set1(powers[n]));
    }
    product(D, width / kWidth, n, k.words, 1, k.ld, v, width, state, width, Sums::added);
  }
  if (f.final_state)
    for (int64_t d = 0; d < D; d++) copy_row(state_row(f.final_state, d), state + d * width, count, 1, false);
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::linear_attention(Stream& stream, Out out, OptOut final_state, In q, In k, In v, OptIn initial_state,
                                OptIn decay, Bool reverse) {
  constexpr const char* op = "linear_attention";
  Linear f{};
  f.n = check_linear_attention(op, out, final_state, q, k, v, initial_state, decay);
  if (out.empty() && (!final_state || final_state->empty())) return;
  f.out = out;
  f.q = q;
  f.k = k;
  f.v = v;
  f.initial = initial_state ? initial_state->f32() : nullptr;
  f.decay = decay ? decay->f32() : nullptr;
  f.final_state = final_state ? final_state->f32() : nullptr;
  f.reverse = reverse;
  const int64_t heads = f.n.B * f.n.H, vectors = ceil_div(f.n.Dv, kWidth), threads = thread_count();
  const int64_t split = ceil_div(vectors, min_of(vectors, max_of<int64_t>(1, threads / heads)));  // vectors of an item
  f.columns = split * kWidth;
  f.splits = ceil_div(vectors, split);

  const int64_t items = heads * f.splits, workers = min_of(items, threads), scratch = f.scratch();
  const Stream::Workspace workspace(stream, op, static_cast<size_t>(workers * scratch) * 4);
  float* memory = workspace.f32();
  stream.launch(op, [=] {
    for_each_item(workers, items, [&](int64_t worker, int64_t item) {
      const int64_t head = item / f.splits;
      run_head(f, head / f.n.H, head % f.n.H, item % f.splits * f.columns, Scratch(memory + worker * scratch));
    });
  });
}

}  // namespace heed::cpu
