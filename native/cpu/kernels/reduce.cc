// out = Σ, mean or max of inp over the dimensions in which out's size is 1, written or, with `accumulate`, added. It
// takes any strides and any subset of dimensions. max is NaN if an element is; the sum of no elements is 0.
//
// If the dimension in which inp is packed most closely is reduced, each output runs along rows of inp. If that
// dimension is kept, a tile of outputs runs down inp's columns side by side. Both add in f32 lanes over short blocks
// and in f64 across blocks. If there are few outputs over many elements, these are cut into segments, whose f64 results
// are combined in order. The work is parallel over outputs and segments; the cut depends on shapes and strides only.
#include "core/kinds.h"
#include "cpu/kernels/kernel.h"
#include "cpu/kernels/strided.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

constexpr int64_t kTasks = 64;      // enough to balance; fewer outputs than that are cut into segments
constexpr int64_t kTile = 512;      // columns side by side: 2 KiB of a row, long enough for the prefetcher
constexpr int64_t kUnroll = 8;      // independent lane accumulators along a row
constexpr int64_t kBlockAdds = 16;  // f32 additions into one lane before f64 takes over

struct Add {
  static constexpr float identity() { return 0; }
  static vf combine(vf a, vf b) { return a + b; }
  static double combine(double a, double b) { return a + b; }
};
struct Max {
  static constexpr float identity() { return -HUGE_VALF; }
  static vf combine(vf m, vf x) { return select((x > m) | (x != x), x, m); }
  static double combine(double m, double x) { return x > m || x != x ? x : m; }
};

struct Plan {
  TensorView out, inp;
  Loop<2> kept;     // inp, out
  Loop<1> reduced;  // inp
  bool columns;
  int64_t tile;               // outputs of a task
  int64_t segments, segment;  // segments of the reduced elements, and elements of a segment
  double divisor;
  bool accumulate;

  void write(int64_t at, double value) const {
    const float result = static_cast<float>(value / divisor);
    with_float_type(out.dtype, [&](auto type) {
      auto* const to = out.ptr<decltype(type)>() + at;
      store_one(to, accumulate ? load_one(to) + result : result);
    });
  }
};

template <class Op>
double combine_lanes(vf v) {
  double result = static_cast<double>(v[0]);
  for (int k = 1; k < kWidth; k++) result = Op::combine(result, static_cast<double>(v[k]));
  return result;
}

template <class Op, class Source>
double reduce_row(Source in, int64_t n) {
  constexpr int64_t kStep = kUnroll * kWidth;
  double total = static_cast<double>(Op::identity());
  int64_t i = 0;
  while (i + kStep <= n) {
    const int64_t end = min_of(i + kBlockAdds * kStep, n);
    vf acc[kUnroll];
    for (auto& lanes : acc) lanes = set1(Op::identity());
    for (; i + kStep <= end; i += kStep)
      for (int64_t u = 0; u < kUnroll; u++) acc[u] = Op::combine(acc[u], in.load(i + u * kWidth));
    for (int64_t half = kUnroll / 2; half; half /= 2)
      for (int64_t u = 0; u < half; u++) acc[u] = Op::combine(acc[u], acc[u + half]);
    total = Op::combine(total, combine_lanes<Op>(acc[0]));
  }
  if (i + kWidth <= n) {
    vf acc = set1(Op::identity());
    for (; i + kWidth <= n; i += kWidth) acc = Op::combine(acc, in.load(i));
    total = Op::combine(total, combine_lanes<Op>(acc));
  }
  if (i < n) {
    const vf rest = in.load(i, n - i);
    for (int64_t k = 0; k < n - i; k++) total = Op::combine(total, static_cast<double>(rest[k]));
  }
  return total;
}

// Reduces elements [begin, end) of the reduced dimensions for the output whose first element is `inp`.
template <class Op, class Source>
double reduce_rows(const Plan& plan, Source inp, int64_t begin, int64_t end) {
  double total = static_cast<double>(Op::identity());
  for_rows(plan.reduced, begin, end, [&](const int64_t* offsets, int64_t n) {
    total = Op::combine(total, reduce_row<Op>(inp.at(offsets[0]), n));
  });
  return total;
}

// The same for `width` outputs side by side.
template <class Op, class Source>
void reduce_columns(const Plan& plan, Source inp, int64_t width, int64_t begin, int64_t end, double* total) {
  alignas(64) float block[kTile];
  int64_t rows = 0;
  const auto flush = [&] {
    for (int64_t c = 0; c < width; c++) total[c] = Op::combine(total[c], static_cast<double>(block[c]));
    for (int64_t c = 0; c < kTile; c++) block[c] = Op::identity();
    rows = 0;
  };
  for (int64_t c = 0; c < width; c++) total[c] = static_cast<double>(Op::identity());
  for (int64_t c = 0; c < kTile; c++) block[c] = Op::identity();
  for_rows(plan.reduced, begin, end, [&](const int64_t* offsets, int64_t n) {
    const int64_t stride = plan.reduced.stride(0);
    Source row = inp.at(offsets[0]);
    for (int64_t r = 0; r < n;) {
      const int64_t left = min_of(n - r, 4 * kBlockAdds - rows);
      if (left >= 4) {
        const auto f = [](vf sum, vf a, vf b, vf c, vf d) {
          return Op::combine(sum, Op::combine(Op::combine(a, b), Op::combine(c, d)));
        };
        map_row(Contiguous<float>{block}, width, false, f, Contiguous<float>{block}, row, row.at(stride),
                row.at(2 * stride), row.at(3 * stride));
      } else {
        map_row(
            Contiguous<float>{block}, width, false, [](vf sum, vf a) { return Op::combine(sum, a); },
            Contiguous<float>{block}, row);
      }
      const int64_t taken = left >= 4 ? 4 : 1;
      r += taken, rows += taken, row = row.at(taken * stride);
      if (rows >= 4 * kBlockAdds) flush();
    }
  });
  flush();
}

// Reduces elements [begin, end) of the reduced dimensions for outputs [first, first + width), which lie in one row of
// the kept dimensions. It calls sink(output's index, its place in out, result).
template <class Op, class Sink>
void reduce_tile(const Plan& plan, int64_t first, int64_t width, int64_t begin, int64_t end, const Sink& sink) {
  const int64_t inp_stride = plan.kept.stride(0), out_stride = plan.kept.stride(1);
  const int64_t along = plan.columns ? inp_stride : plan.reduced.stride(0);
  for_rows(plan.kept, first, first + width, [&](const int64_t* offsets, int64_t n) {
    double total[kTile];
    const auto reduce = [&](auto inp) {
      if (plan.columns) return reduce_columns<Op>(plan, inp, n, begin, end, total);
      for (int64_t k = 0; k < n; k++) total[k] = reduce_rows<Op>(plan, inp.at(k * inp_stride), begin, end);
    };
    if (along == 1)
      with_float_type(plan.inp.dtype, [&](auto type) {
        using T = decltype(type);
        reduce(Contiguous<T>{plan.inp.ptr<T>() + offsets[0]});
      });
    else
      reduce(strided(plan.inp, offsets[0], along));
    for (int64_t k = 0; k < n; k++) sink(first + k, offsets[1] + k * out_stride, total[k]);
  });
}

template <class Op>
void run(const Plan& plan, double* partial) {
  const int64_t row = plan.kept.row(), tiles_a_row = ceil_div(row, plan.tile);
  const int64_t tasks = plan.kept.size / row * tiles_a_row * plan.segments;
  const int64_t grain = ceil_div(kGrain, max_of<int64_t>(min_of(plan.tile, row) * plan.segment, 1));
  parallel_for(tasks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t tile = task / plan.segments, segment = task % plan.segments;
      const int64_t column = tile % tiles_a_row * plan.tile, first = tile / tiles_a_row * row + column;
      const int64_t from = segment * plan.segment, to = min_of(from + plan.segment, plan.reduced.size);
      reduce_tile<Op>(plan, first, min_of(plan.tile, row - column), from, to, [&](int64_t i, int64_t at, double value) {
        if (partial)
          partial[i * plan.segments + segment] = value;
        else
          plan.write(at, value);
      });
    }
  });
  if (!partial) return;
  int64_t i = 0;
  for_rows(plan.kept, 0, plan.kept.size, [&](const int64_t* offsets, int64_t n) {
    for (int64_t k = 0; k < n; k++, i++) {
      double total = static_cast<double>(Op::identity());
      for (int64_t s = 0; s < plan.segments; s++) total = Op::combine(total, partial[i * plan.segments + s]);
      plan.write(offsets[1] + k * plan.kept.stride(1), total);
    }
  });
}

// Returns the kept and the reduced dimensions as two loops, and how to cut them.
Plan make_plan(const TensorView& out, const TensorView& inp, bool mean, bool accumulate) {
  TensorView kept = inp, reduced = inp;
  for (int d = 0; d < inp.rank; d++) (out.shape[d] == inp.shape[d] ? reduced : kept).shape[d] = 1;
  Plan plan;
  plan.out = out;
  plan.inp = inp;
  plan.kept = make_loop({&kept, &out});
  plan.reduced = make_loop({&reduced});
  const int64_t count = plan.reduced.size, row = plan.kept.row();
  plan.columns = plan.kept.size > 1 && count > 1 && plan.kept.stride(0) < plan.reduced.stride(0);
  plan.tile = plan.columns ? kTile : min_of(max_of<int64_t>(kGrain / max_of<int64_t>(count, 1), 1), kTile);
  const int64_t tiles = plan.kept.size / row * ceil_div(row, plan.tile);
  const int64_t useful = ceil_div(count * min_of(plan.tile, row), kGrain);
  plan.segments = max_of<int64_t>(min_of(ceil_div(kTasks, tiles), useful), 1);
  plan.segment = ceil_div(count, plan.segments);
  plan.segments = max_of<int64_t>(plan.segment ? ceil_div(count, plan.segment) : 1, 1);
  plan.divisor = mean ? static_cast<double>(count) : 1;
  plan.accumulate = accumulate;
  return plan;
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::reduce(Stream& stream, Out out, In inp, Int kind, Bool accumulate) {
  check_reduce(out, inp, kind);
  if (out.empty()) return;
  const ReduceKind reduction = static_cast<ReduceKind>(kind);
  const Plan plan = make_plan(out, inp, reduction == ReduceKind::mean, accumulate);
  const size_t partials = plan.segments > 1 ? static_cast<size_t>(plan.kept.size * plan.segments) : 0;
  const Stream::Workspace workspace(stream, "reduce", partials * sizeof(double));
  double* partial = static_cast<double*>(workspace.data());
  stream.launch("reduce", [plan, reduction, partial] {
    if (reduction == ReduceKind::max)
      run<Max>(plan, partial);
    else
      run<Add>(plan, partial);
  });
}

}  // namespace heed::cpu
