// Embedding: out[i, C] = weight[ids[i], C]; backward dweight[ids[i], C] (+)= dout[i, C].
//
// Every id is checked before anything is written. Forward copies rows in parallel. Backward first lists the positions
// of each id. Then each row of the table, in blocks of columns, is summed in f32 over its positions in order and
// written once, independently of the threads. Backward needs the ids only.
#include "core/checks/embedding.h"
#include "cpu/kernels/rows.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

inline void check_ids(const int32_t* ids, int64_t n, int64_t V) {
  for (int64_t i = 0; i < n; i++)
    if (ids[i] < 0 || ids[i] >= V)
      fail(Code::range, "expected ids in [0, %lld), got %d at position %lld", static_cast<long long>(V), ids[i],
           static_cast<long long>(i));
}

// to[C] = from[C], for any two float dtypes, or bit by bit.
void copy_row(const TensorView& out, int64_t to, const TensorView& inp, int64_t from, int64_t C) {
  if (out.dtype == inp.dtype) {
    const int64_t bytes = C * static_cast<int64_t>(size_of(out.dtype));
    std::memcpy(out.ptr<char>() + to * bytes, inp.ptr<const char>() + from * bytes, static_cast<size_t>(bytes));
    return;
  }
  with_float_type(out.dtype, [&](auto out_type) {
    auto* const y = out.ptr<decltype(out_type)>() + to * C;
    with_float_type(inp.dtype, [&](auto inp_type) {
      const auto* const x = inp.ptr<decltype(inp_type)>() + from * C;
      if constexpr (!std::is_same_v<decltype(out_type), decltype(inp_type)>) convert_row(y, x, C);
    });
  });
}

constexpr int64_t kColumns =
    128;  // columns of a block: whole cache lines, so that no two threads write to the same one

struct Gradient {
  TensorView dweight, dout;
  int64_t V, C, n;
  bool accumulate;
  int32_t *first, *next;  // the first position of each id; for each position the next one of its id, or -1

  void list(const int32_t* ids) const {
    for (int64_t v = 0; v < V; v++) first[v] = -1;
    for (int64_t i = n - 1; i >= 0; i--) {
      next[i] = first[ids[i]];
      first[ids[i]] = static_cast<int32_t>(i);
    }
  }

  template <class W, class T>
  void block(W* table, const T* dy, int64_t v, int64_t column) const {
    float sum[kColumns] = {};
    const int64_t width = min_of(kColumns, C - column);
    W* row = table + v * C + column;
    if (accumulate) convert_row(sum, row, width);
    for (int64_t i = first[v]; i >= 0; i = next[i]) {
      const T* from = dy + i * C + column;
      over_row(width,
               [&](int64_t c, auto lanes, int) { lanes.store(sum + c, lanes.load(sum + c) + lanes.load(from + c)); });
    }
    convert_row(row, sum, width);
  }

  template <class W, class T>
  void run() const {
    const int64_t blocks = ceil_div(C, kColumns);
    parallel_for(V * blocks, 64, [=](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; b++)
        if (first[b / blocks] >= 0 || !accumulate)
          block(dweight.ptr<W>(), dout.ptr<T>(), b / blocks, b % blocks * kColumns);
    });
  }
};

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::embedding_forward(Stream& stream, Out out, In ids, In weight) {
  const char* op = "embedding_forward";
  check_embedding_forward(op, out, ids, weight);
  const int64_t n = ids.numel(), V = weight.dim(0), C = weight.dim(1);
  stream.launch(op, [=] {
    const int32_t* id = ids.i32();
    check_ids(id, n, V);
    parallel_for(n, max_of<int64_t>(1, 16384 / max_of<int64_t>(C, 1)), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) copy_row(out, i, weight, id[i], C);
    });
  });
}

void HEED_ISA::embedding_backward(Stream& stream, Out dweight, In dout, In ids, Bool accumulate) {
  const char* op = "embedding_backward";
  check_embedding_backward(op, dweight, dout, ids);
  const int64_t n = ids.numel(), V = dweight.dim(0), C = dweight.dim(1);
  const Stream::Workspace lists(stream, op, static_cast<size_t>(V + n) * sizeof(int32_t));
  int32_t* first = static_cast<int32_t*>(lists.data());
  const Gradient gradient{dweight, dout, V, C, n, accumulate, first, first + V};
  stream.launch(op, [=] {
    check_ids(ids.i32(), n, V);
    gradient.list(ids.i32());
    with_float_type(dout.dtype, [&](auto type) {
      using T = decltype(type);
      if (dweight.dtype == DType::f32)
        gradient.run<float, T>();
      else
        gradient.run<T, T>();
    });
  });
}

}  // namespace heed::cpu
