// linear_attention: out_t = q_t^T S_t with S_t = decay · S_{t-1} + k_t v_t^T (Katharopoulos et al. 2020, eq. 18-20;
// with a decay it is RetNet, Sun et al. 2023). It goes over chunks of n = 64 tokens. Within a chunk it is masked
// attention without a softmax:
//   out = (Q K^T ∘ M) V + P Q S,   S' = decay^n S + K^T R V,
// where M is the lower triangle of decay^(i-j), P the diagonal of decay^(i+1), and R the diagonal of decay^(n-1-j). The
// operation is its own backward (ops.def). In reverse, steps count from the last token.
//
// A block takes 64 columns of a head's v (block_y() selects them), whose state is independent of the other columns, and
// goes over the chunks with the tiles of attention_fma.h: in exact f32 for every dtype. The state stays in shared
// memory if it fits, and otherwise in global memory, that is, in L2. The columns of q and k are processed in pieces of
// 64.
//
// If there are fewer heads than multiprocessors, the tokens are cut into segments: a first launch sums each segment but
// the last, a second one accumulates the sums from segment to segment, and then all segments run at once.
#include "core/checks/linear_attention.h"

#include "cuda/kernels/attention_fma.h"
#if !HEED_DEVICE_CODE
#include "cuda/kernels/attention_host.h"
#endif

namespace heed::cuda {

struct LinearAttentionParams {
  HeadsView q, k, v, out;
  int64_t T;
  int H, D, Dv;
  bool reverse, aligned;
  const float* initial;  // [B, H, D, Dv] or null
  const float* decay;    // [H] or null
  float* final_state;    // [B, H, D, Dv] or null; may be initial
  float* states;         // [blocks, pieces of 64 of D, 64, 64] if shared memory is too small
  int segments;
  int64_t segment;  // tokens of each segment, whole chunks
  float* carried;   // [B, H, segments, D, Dv]: the state before each segment, if there are several
  bool sums_only;   // compute only the sum of each segment s, to carried[s + 1]
};

constexpr int kPiece = 64;                           // columns of q and k that are processed together
constexpr int kTileFloats = kFmaTile * kProbStride;  // floats of a tile of q or of k
constexpr int kLeastChunks = 4;                      // least chunks of a segment
constexpr int kStateFloats = kPiece * kFmaTile;      // floats of a piece of the state, and of a chunk of v

#if HEED_DEVICE_CODE

constexpr float kLeastLog = -200;  // least log of a decay, so that 0 to the power of 0 is 1

// The fields that load_tile_rows needs of its Params.
struct Columns {
  int D;
  bool aligned;
};

// Multiplies what a row takes from the state, and its weights of the rows before it, by their decay until this row.
// Rows after it have no weight.
template <class Power>
__device__ void decay_rows(float (&out)[4][4], float (&weights)[4][4], bool decays, const Power& power) {
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int r = ty * 4 + i;
    if (decays) {
      const float carried = power(r + 1);
#pragma unroll
      for (int j = 0; j < 4; j++) out[i][j] *= carried;
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const int before = r - (tx + 16 * j);
      if (before < 0)
        weights[i][j] = 0;
      else if (decays)
        weights[i][j] *= power(before);
    }
  }
}

template <class T, bool kSharedState>
__device__ void linear_attention_body(const LinearAttentionParams& p) {
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  float* const q = reinterpret_cast<float*>(attention_shared);  // later the weights of its rows
  float* const k = q + kTileFloats;
  float* const v = k + kTileFloats;
  const int segment = static_cast<int>(blockIdx.x % p.segments), first_column = static_cast<int>(block_y()) * kFmaTile;
  const int64_t head = blockIdx.x / p.segments, b = head / p.H;
  const int h = static_cast<int>(head % p.H);
  if (first_column >= p.Dv || (p.sums_only && segment == p.segments - 1)) return;
  const int pieces = max(1, (p.D + kPiece - 1) / kPiece);
  float* const state =
      kSharedState ? v + kStateFloats : p.states + (block_y() * gridDim.x + blockIdx.x) * pieces * kStateFloats;
  const Columns keys{p.D, p.aligned}, values{p.Dv, p.aligned};
  // Calls body with the state's element, whether it exists, and its place in the state `number` of a tensor.
  const auto for_each_element = [&](int64_t number, const auto& body) {
    for (int i = threadIdx.x; i < pieces * kStateFloats; i += kFmaThreads) {
      const int d = i / kFmaTile, c = first_column + i % kFmaTile;
      body(state[i], d < p.D && c < p.Dv, (number * p.D + d) * p.Dv + c);
    }
  };
  const auto read = [&](const float* states, int64_t number) {
    for_each_element(number, [&](float& x, bool there, int64_t at) { x = states && there ? states[at] : 0; });
  };
  const auto write = [&](float* states, int64_t number) {
    __syncthreads();
    for_each_element(number, [&](float& x, bool there, int64_t at) {
      if (there) states[at] = x;
    });
  };
  if (p.segments == 1)
    read(p.initial, head);
  else
    read(p.sums_only ? nullptr : p.carried, blockIdx.x);
  const bool decays = p.decay != nullptr;
  const float log2_decay = decays ? fmaxf(log2f(p.decay[h]), kLeastLog) : 0;
  const auto power = [&](int n) { return exp2_fast(static_cast<float>(n) * log2_decay); };

  const int64_t end = min(p.T, (segment + 1) * p.segment);
  for (int64_t step = segment * p.segment; step < end; step += kFmaTile) {
    const int count = static_cast<int>(min(static_cast<int64_t>(kFmaTile), end - step));
    const auto row = [&](const HeadsView& x, int r) {
      return x.row<T>(b, p.reverse ? p.T - 1 - (step + r) : step + r, h);
    };
    const auto load_keys = [&](int piece) {
      load_tile_rows<T, kPiece, kProbStride>(k, count, piece * kPiece, keys, [&](int r) { return row(p.k, r); });
    };
    float out[4][4] = {}, weights[4][4] = {};
    const int first_piece = p.sums_only ? pieces - 1 : 0;
    for (int piece = first_piece; piece < pieces; piece++) {
      __syncthreads();  // the tiles are no longer read, and the state is written
      if (!p.sums_only)
        load_tile_rows<T, kPiece, kProbStride>(q, count, piece * kPiece, keys, [&](int r) { return row(p.q, r); });
      load_keys(piece);
      if (piece == first_piece)
        load_tile_rows<T, kFmaTile, kFmaTile>(v, count, first_column, values, [&](int r) { return row(p.v, r); });
      cp_async_commit();
      cp_async_wait<0>();
      __syncthreads();
      if (p.sums_only) break;
      const int columns = min(kPiece, p.D - piece * kPiece);
      multiply_chunk<kProbStride>(weights, q, k, columns);
      multiply_tile<kFmaTile>(out, q, state + piece * kStateFloats, columns);
    }
    if (!p.sums_only) {
      decay_rows(out, weights, decays, power);
      __syncwarp();  // the warp's own rows of q are no longer read
      store_probs(q, weights);
      __syncwarp();
      multiply_tile<kFmaTile>(out, q, v, count);
#pragma unroll
      for (int i = 0; i < 4; i++)
        if (ty * 4 + i < count)
          store_columns<T, kFmaTile>(row(p.out, ty * 4 + i), out[i], 1, first_column, p.Dv, p.aligned);
    }

    __syncthreads();  // v and the state are no longer read
    if (decays) {
      for (int i = threadIdx.x; i < count * kFmaTile; i += kFmaThreads) v[i] *= power(count - 1 - i / kFmaTile);
      __syncthreads();
    }
    const float kept = power(count);
    for (int piece = pieces - 1; piece >= 0; piece--) {  // the last piece of k is still there
      if (piece < pieces - 1) {
        __syncthreads();
        load_keys(piece);
        cp_async_commit();
        cp_async_wait<0>();
        __syncthreads();
      }
      float added[4][4] = {};
      multiply_transposed<kFmaTile>(added, k, v, count);
#pragma unroll
      for (int i = 0; i < 4; i++) {
        float* const at = state + piece * kStateFloats + (ty * 4 + i) * kFmaTile + tx * 4;
        Float4 sum = Float4::load(at);
#pragma unroll
        for (int j = 0; j < 4; j++) sum.at[j] = fmaf(sum.at[j], kept, added[i][j]);
        sum.store(at);
      }
    }
  }
  if (p.sums_only)
    write(p.carried, blockIdx.x + 1);
  else if (p.final_state && segment == p.segments - 1)
    write(p.final_state, head);
}

// Turns the sums of segments into the states before them. A thread handles one element of a head's state.
__device__ void linear_attention_carry_body(const LinearAttentionParams& p) {
  const int64_t elements = static_cast<int64_t>(p.D) * p.Dv;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kFmaThreads + threadIdx.x;
  const int64_t head = blockIdx.y;
  if (at >= elements) return;
  const float log2_decay = p.decay ? fmaxf(log2f(p.decay[head % p.H]), kLeastLog) : 0;
  const float kept = exp2_fast(static_cast<float>(p.segment) * log2_decay);
  float* const carried = p.carried + head * p.segments * elements + at;
  float state = p.initial ? p.initial[head * elements + at] : 0;
  carried[0] = state;
  for (int s = 1; s < p.segments; s++) carried[s * elements] = state = fmaf(state, kept, carried[s * elements]);
}

#endif

#define LINEAR_ATTENTION(type, T)                                                                             \
  HEED_KERNEL(linear_attention_##type, LinearAttentionParams, kFmaThreads, 1, linear_attention_body<T, true>) \
  HEED_KERNEL(linear_attention_large_##type, LinearAttentionParams, kFmaThreads, 1, linear_attention_body<T, false>)
LINEAR_ATTENTION(f32, float)
LINEAR_ATTENTION(bf16, bf16)
LINEAR_ATTENTION(f16, f16)
HEED_KERNEL(linear_attention_carry, LinearAttentionParams, kFmaThreads, 1, linear_attention_carry_body)

#if !HEED_DEVICE_CODE

void host::linear_attention(Stream& stream, Out out, OptOut final_state, In q, In k, In v, OptIn initial_state,
                            OptIn decay, Bool reverse) {
  const char* op = "linear_attention";
  const LinearAttentionSizes n = check_linear_attention(op, out, final_state, q, k, v, initial_state, decay);
  if (n.H > INT32_MAX || n.D > INT32_MAX || n.Dv > INT32_MAX)
    fail(Code::shape, "%s: expected at most %d heads and head sizes, got %lld, %lld and %lld", op, INT32_MAX,
         static_cast<long long>(n.H), static_cast<long long>(n.D), static_cast<long long>(n.Dv));
  if (out.empty() && (!final_state || final_state->empty())) return;

  const int64_t heads = n.B * n.H, column_blocks = ceil_div(n.Dv, kFmaTile);
  const int64_t pieces = std::max<int64_t>(1, ceil_div(n.D, kPiece));
  // With segments a quarter of the work is done twice, and states are accumulated, which pays off from a few chunks per
  // segment on.
  const int64_t chunks = ceil_div(n.T, kFmaTile), free = stream.multiprocessors() / (heads * column_blocks);
  const int64_t most = std::max<int64_t>(1, std::min(free, chunks / kLeastChunks));
  const int64_t segment = std::max<int64_t>(1, ceil_div(chunks, most)) * kFmaTile;
  const int64_t segments = std::max<int64_t>(1, ceil_div(n.T, segment)), blocks = heads * segments;
  const size_t tiles = (2 * kTileFloats + kStateFloats) * 4, state = static_cast<size_t>(pieces) * kStateFloats * 4;
  const bool fits = tiles + state <= std::min<size_t>(stream.shared_limit(), 99 * 1024);
  const Stream::Workspace states(stream, op, fits ? 0 : static_cast<size_t>(blocks * column_blocks) * state);
  const Stream::Workspace carried(stream, op, segments == 1 ? 0 : static_cast<size_t>(blocks * n.D * n.Dv) * 4);
  LinearAttentionParams p{};
  p.q = heads_view(q);
  p.k = heads_view(k);
  p.v = heads_view(v);
  p.out = heads_view(out);
  p.T = n.T;
  p.H = static_cast<int>(n.H);
  p.D = static_cast<int>(n.D);
  p.Dv = static_cast<int>(n.Dv);
  p.reverse = reverse;
  p.aligned = rows_aligned(q) && rows_aligned(k) && rows_aligned(v) && rows_aligned(out);
  p.initial = initial_state ? initial_state->f32() : nullptr;
  p.decay = decay ? decay->f32() : nullptr;
  p.final_state = final_state ? final_state->f32() : nullptr;
  p.states = states.f32();
  p.segments = static_cast<int>(segments);
  p.segment = segment;
  p.carried = carried.f32();
  const auto launch_of = [&](auto& f32, auto& bf16, auto& f16) {
    auto& kernel = q.dtype == DType::f32 ? f32 : q.dtype == DType::bf16 ? bf16 : f16;
    stream.launch(op, kernel, tall_grid(blocks, column_blocks), p, fits ? tiles + state : tiles);
  };
  const auto launch = [&] {
    if (fits)
      launch_of(linear_attention_f32, linear_attention_bf16, linear_attention_f16);
    else
      launch_of(linear_attention_large_f32, linear_attention_large_bf16, linear_attention_large_f16);
  };
  if (segments > 1) {
    p.sums_only = true;
    launch();
    stream.launch(op, linear_attention_carry, {ceil_div(n.D * n.Dv, kFmaThreads), heads}, p);
    p.sums_only = false;
  }
  launch();
}

#endif

}  // namespace heed::cuda
