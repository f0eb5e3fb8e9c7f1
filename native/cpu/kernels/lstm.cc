// lstm_forward and lstm_backward: a long short-term memory (Hochreiter & Schmidhuber 1997; Gers et al. 2000) over all
// steps, in one kernel.
//
// A step is a product of few rows by the same weight as in every other step, and an elementwise cell. The weight is
// packed once for all steps. A task is a block of units for a panel of rows: it multiplies, computes the cell from the
// sums while they are in L1, and packs what the next step multiplies. So a step is a single parallel loop, and no step
// packs an operand beforehand.
//
// Forward, a task computes the four gates of its units, h[t] · weightᵀ, whose rows the next step's product sums over.
// Backward, it computes dh[t + 1] = dout[t] + dgates[t + 1] · weight of its units, and from it dgates[t]; the gradient
// of c stays in f32. Sums are in the order of gemm_words.h, so that the bits of a row depend neither on the rows beside
// it nor on the number of threads; the four gates of dgates are packed apart from each other, each to whole words.
//
// A few steps of inference are products of gemm(), each followed by its cell, because packing the weight would cost
// more than they do. They have the same bits.
#include "core/checks/lstm.h"

#include "cpu/kernels/claims.h"
#include "cpu/kernels/gemm_micro.h"
#include "cpu/kernels/gemm_pack.h"
#include "cpu/kernels/lstm_cell.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

constexpr int64_t kFewSteps = 4;              // whose products do not pack the weight
constexpr int64_t kTaskProducts = 1 << 17;    // that are worth a turn at the counter
constexpr int64_t kTaskElements = 1 << 12;    // of a cell on its own
constexpr int64_t kPackedElements = 1 << 15;  // of the weight that a thread packs at once
constexpr int64_t kUnits = kTileColumns;      // of a block

// The products of all steps: rows [B, K] by the packed weight.
struct Steps {
  LstmSizes n;
  DType dtype;
  bool backward;
  Word word;
  int64_t elements;  // of k in a word
  int64_t words;     // of the k of one gate: forward there is one sum over H, backward one over the four gates
  int64_t length;    // words of a chain
  Panels a, b;
  int64_t row_panels, blocks;

  Steps(const LstmSizes& sizes, DType type, bool is_backward) : n(sizes), dtype(type), backward(is_backward) {
    Problem p;
    p.a.data.dtype = dtype;
    p.k = n.H;
    const Chains one(p);
    word = one.word;
    elements = one.elements;
    words = one.words(n.H);
    p.k = sum() * elements;
    length = (backward ? Chains(p) : one).length / elements;
    a.rows = even_part(n.B, kTileRows);
    a.lanes = ceil_div(a.rows, 2) * 2;  // as the micro-kernel reads them
    b.rows = b.lanes = kTileColumns;
    // Panels are a cache line further apart than they are long, so that they do not compete for the same cache sets.
    a.stride = sum() * a.lanes + 16;
    b.stride = sum() * b.lanes + 16;
    row_panels = ceil_div(n.B, a.rows);
    blocks = ceil_div(n.H, kUnits);
  }

  int64_t sum() const { return backward ? kGates * words : words; }  // words of k
  int64_t products() const { return backward ? 1 : kGates; }         // of a task
  int64_t floats_a() const { return row_panels * a.stride; }
  int64_t floats_b() const { return blocks * products() * b.stride; }

  void pack_weight(float* to, const Matrices& weight) const {
    const int64_t grain = ceil_div(kPackedElements, kUnits * n.H);
    parallel_for(blocks * kGates, grain, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; task++) {
        const int64_t j = task / kGates * kUnits, gate = task % kGates, units = min_of(kUnits, n.H - j);
        const Floats from = weight.data + gate * n.H * weight.row;
        if (backward)
          pack_operand(word, dtype, to + task / kGates * b.stride + gate * words * b.lanes, b, from + j * weight.column,
                       units, n.H, weight.column, weight.row);
        else
          pack_operand(word, dtype, to + task * b.stride, b, from + j * weight.row, units, n.H, weight.row,
                       weight.column);
      }
    });
  }

  // Packs up to kUnits columns from `first` of one gate, or of h, for a panel of rows that are `apart`. They are laid
  // out as densely as the micro-kernel can read them, so that a panel stays in L1.
  void pack_rows(float* to, int64_t panel, int64_t gate, int64_t first, int64_t count, Floats from, int64_t rows,
                 int64_t apart) const {
    constexpr int64_t kLanes = (kTileRows + kWidth - 1) / kWidth * kWidth;
    alignas(64) float wide[kUnits * kLanes];
    pack_operand(word, dtype, wide, {kLanes, kLanes, 0}, from, rows, count, apart, 1);
    to += panel * a.stride + (gate * words + first / elements) * a.lanes;
    const int64_t lanes = a.lanes, packed = ceil_div(count, elements);
    for (int64_t lane = 0; lane < lanes; lane += kWidth)
      for (int64_t p = 0; p < packed; p++)
        store_upto(to + p * lanes + lane, load(wide + p * kLanes + lane), lanes - lane);
  }

  void multiply(const float* x, const float* weight, int64_t rows, int64_t columns, float* sums) const {
    if (word == Word::bf16_pair)
      multiply_tile<Word::bf16_pair>(rows, columns, sum(), length, false, x, a.lanes, weight, b.lanes, sums, x);
    else
      multiply_tile<Word::f32>(rows, columns, sum(), length, false, x, a.lanes, weight, b.lanes, sums, x);
  }

  // The tasks of a step, and how many of them are worth a turn.
  int64_t tasks() const { return blocks * row_panels; }
  int64_t least() const { return ceil_div(kTaskProducts, a.rows * kUnits * products() * max_of<int64_t>(1, sum())); }
};

// Calls f(row, unit, count) for each vector of units, or the rest of a row, of a task.
template <class F>
inline void each_vector(int64_t rows, int64_t units, const F& f) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t u = 0; u < units; u += kWidth) f(r, u, min_of<int64_t>(kWidth, units - u));
}

// Asks for `units` elements of each of some rows, which lie too far apart for the processor's own prefetcher. It is
// called before the product, which takes as long as they take to arrive.
template <bool writes, class T>
inline void fetch(const T* p, int64_t rows, int64_t apart, int64_t units) {
  for (int64_t r = 0; r < rows; r++, p += apart)
    for (int64_t byte = 0; byte < units * static_cast<int64_t>(sizeof *p); byte += kCacheLine)
      __builtin_prefetch(reinterpret_cast<const char*>(p) + byte, writes, 2);
}

// Where the numbers of a step are: those of a state in [T, B, H], those of gates in [T, B, 4, H].
struct Places {
  LstmSizes n;

  int64_t state(int64_t t, int64_t row, int64_t unit) const { return (t * n.B + row) * n.H + unit; }
  int64_t gate(int64_t t, int64_t row, int64_t which, int64_t unit) const {
    return ((t * n.B + row) * kGates + which) * n.H + unit;
  }
};

template <class T>
struct Forward : Places {
  T *gates, *h, *c;
  const T* x;
  Matrices weight;
  Floats bias;

  void finish(int64_t t, int64_t row, int64_t unit, int64_t count, const vf (&z)[kGates]) const {
    const CellState after = lstm_cell<T>(z, load_upto(c + state(t, row, unit), count));
    store_upto(c + state(t + 1, row, unit), after.c, count);
    store_upto(h + state(t + 1, row, unit), after.h, count);
  }

  // Computes the state of a step whose gates are in memory.
  void cells(int64_t t) const {
    parallel_for(n.B, ceil_div(kTaskElements, n.H), [&](int64_t begin, int64_t end) {
      each_vector(end - begin, n.H, [&](int64_t r, int64_t unit, int64_t count) {
        vf z[kGates];
        for (int q = 0; q < kGates; q++) z[q] = load_upto(gates + gate(t, begin + r, q, unit), count);
        finish(t, begin + r, unit, count, z);
      });
    });
  }

  void run(const Steps& steps, float* packed, float* now, float* next) const {
    steps.pack_weight(packed, weight);
    const auto pack = [&](float* to, int64_t t, int64_t panel, int64_t rows, int64_t unit, int64_t units) {
      steps.pack_rows(to, panel, 0, unit, units, Floats(h + state(t, panel * steps.a.rows, unit), steps.dtype), rows,
                      n.H);
    };
    for (int64_t panel = 0; panel < steps.row_panels; panel++)
      for (int64_t unit = 0; unit < n.H; unit += kUnits)
        pack(now, 0, panel, min_of(steps.a.rows, n.B - panel * steps.a.rows), unit, min_of(kUnits, n.H - unit));
    RepeatedLoop loop(steps.tasks(), steps.least());
    for (int64_t t = 0; t < n.T; t++) {
      loop.run([&](int64_t task) {
        const int64_t block = task / steps.row_panels, panel = task % steps.row_panels;
        const int64_t row = panel * steps.a.rows, rows = min_of(steps.a.rows, n.B - row);
        const int64_t unit = block * kUnits, units = min_of(kUnits, n.H - unit);
        alignas(64) float sums[kGates][kTileRows * kTileColumns];
        for (int q = 0; q < kGates; q++) {
          fetch<false>(x + gate(t, row, q, unit), rows, kGates * n.H, units);
          fetch<true>(gates + gate(t, row, q, unit), rows, kGates * n.H, units);
        }
        fetch<false>(c + state(t, row, unit), rows, n.H, units);
        for (int64_t q = 0; q < kGates; q++)
          steps.multiply(now + panel * steps.a.stride, packed + (block * kGates + q) * steps.b.stride, rows, units,
                         sums[q]);
        each_vector(rows, units, [&](int64_t r, int64_t u, int64_t count) {
          vf z[kGates];
          for (int q = 0; q < kGates; q++) {
            const int64_t at = gate(t, row + r, q, unit + u);
            vf sum = load(sums[q] + r * kTileColumns + u);
            if (bias) bias.visit([&](const auto* p) { sum += load_upto(p + q * n.H + unit + u, count); });
            z[q] = round_to<T>(sum + load_upto(x + at, count));
            store_upto(gates + at, z[q], count);
          }
          finish(t, row + r, unit + u, count, z);
        });
        if (t + 1 < n.T) pack(next, t + 1, panel, rows, unit, units);
      });
      float* const read = now;
      now = next;
      next = read;
    }
  }
};

template <class T>
struct Backward : Places {
  T* dgates;
  const T *dout, *gates, *c;
  Matrices weight;

  // `dc` [B, H] is the gradient of c by the steps after the current one.
  void run(const Steps& steps, float* packed, float* now, float* next, float* dc) const {
    if (n.T > 1) steps.pack_weight(packed, weight);
    RepeatedLoop loop(steps.tasks(), steps.least());
    for (int64_t t = n.T - 1; t >= 0; t--) {
      const bool last = t == n.T - 1;
      loop.run([&](int64_t task) {
        const int64_t block = task / steps.row_panels, panel = task % steps.row_panels;
        const int64_t row = panel * steps.a.rows, rows = min_of(steps.a.rows, n.B - row);
        const int64_t unit = block * kUnits, units = min_of(kUnits, n.H - unit);
        alignas(64) float sums[kTileRows * kTileColumns];
        for (int q = 0; q < kGates; q++) {
          fetch<false>(gates + gate(t, row, q, unit), rows, kGates * n.H, units);
          if (dgates != gates) fetch<true>(dgates + gate(t, row, q, unit), rows, kGates * n.H, units);
        }
        fetch<false>(dout + state(t, row, unit), rows, n.H, units);
        fetch<false>(c + state(t, row, unit), rows, n.H, units);
        if (!last) steps.multiply(now + panel * steps.a.stride, packed + block * steps.b.stride, rows, units, sums);
        each_vector(rows, units, [&](int64_t r, int64_t u, int64_t count) {
          const int64_t at = state(t, row + r, unit + u);
          float* const carried = dc + state(0, row + r, unit + u);
          vf z[kGates], dz[kGates];
          for (int q = 0; q < kGates; q++) z[q] = load_upto(gates + gate(t, row + r, q, unit + u), count);
          vf dh = load_upto(dout + at, count), d{};
          if (!last) {
            dh += load(sums + r * kTileColumns + u);
            d = load_upto(carried, count);
          }
          lstm_cell_backward(z, load_upto(c + at, count), load_upto(c + at + n.B * n.H, count), dh, d, dz);
          store_upto(carried, d, count);
          for (int q = 0; q < kGates; q++) store_upto(dgates + gate(t, row + r, q, unit + u), dz[q], count);
        });
        if (t > 0)
          for (int q = 0; q < kGates; q++)
            steps.pack_rows(next, panel, q, unit, units, Floats(dgates + gate(t, row, q, unit), steps.dtype), rows,
                            kGates * n.H);
      });
      float* const read = now;
      now = next;
      next = read;
    }
  }
};

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::lstm_forward(Stream& stream, Out gates, AnyInOut h, AnyInOut c, In x, In weight, OptMixedIn bias) {
  const char* op = "lstm_forward";
  const LstmSizes n = check_lstm_forward(gates, h, c, x, weight, bias);
  if (gates.empty()) return;
  with_float_type(x.dtype, [&](auto type) {
    using T = decltype(type);
    const Forward<T> forward{
        {n}, gates.ptr<T>(), h.ptr<T>(), c.ptr<T>(), x.ptr<T>(), Matrices(weight), bias ? Floats(*bias) : Floats()};
    if (n.T <= kFewSteps) {
      for (int64_t t = 0; t < n.T; t++) {
        const TensorView added = x.at(t);
        gemm(stream, gates.at(t), nullptr, h.at(t), weight, bias, &added, nullptr, nullptr, 0, false, false, false,
             false, true);
        stream.launch(op, [forward, t] { forward.cells(t); });
      }
      return;
    }
    const Steps steps(n, x.dtype, false);
    const Stream::Workspace memory(stream, op,
                                   static_cast<size_t>(steps.floats_b() + 2 * steps.floats_a()) * sizeof(float));
    stream.launch(op, [forward, steps, packed = memory.f32()] {
      float* const rows = packed + steps.floats_b();
      forward.run(steps, packed, rows, rows + steps.floats_a());
    });
  });
}

void HEED_ISA::lstm_backward(Stream& stream, Out dgates, In dout, In gates, In c, In weight) {
  const char* op = "lstm_backward";
  const LstmSizes n = check_lstm_backward(dgates, dout, gates, c, weight);
  if (dgates.empty()) return;
  with_float_type(gates.dtype, [&](auto type) {
    using T = decltype(type);
    const Backward<T> backward{{n}, dgates.ptr<T>(), dout.ptr<T>(), gates.ptr<T>(), c.ptr<T>(), Matrices(weight)};
    const Steps steps(n, gates.dtype, true);
    const int64_t floats = steps.floats_b() + 2 * steps.floats_a() + n.B * n.H;
    const Stream::Workspace memory(stream, op, static_cast<size_t>(floats) * sizeof(float));
    stream.launch(op, [backward, steps, packed = memory.f32()] {
      float *const rows = packed + steps.floats_b(), *const dc = rows + 2 * steps.floats_a();
      backward.run(steps, packed, rows, rows + steps.floats_a(), dc);
    });
  });
}

}  // namespace heed::cpu
