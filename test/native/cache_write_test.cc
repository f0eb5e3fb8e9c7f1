// Tests cache_write: every dtype's size, strided views on both sides, starts, memory that must stay unchanged, and
// every error.
#include "sweep.h"

namespace heed::test {
namespace {

struct Case {
  DType dtype;
  int64_t B, S, T, H, D;  // S tokens in the cache, T new ones
  std::vector<int32_t> starts = {};
};

// Returns the keys of packed queries, keys and values.
TensorView keys_of(TensorView packed, int64_t H, int64_t D) {
  packed.rank = 4;
  packed.shape[2] = H;
  packed.shape[3] = D;
  packed.strides[2] = D;
  packed.strides[3] = 1;
  packed.data = packed.ptr<char>() + H * D * static_cast<int64_t>(size_of(packed.dtype));
  return packed;
}

// Returns the view of a cache that is stored as [B, H, S, D].
TensorView heads_first(const TensorView& memory) { return permute(memory, {0, 2, 1, 3}); }

TEST(cache_write) {
  const Case cases[] = {{DType::f32, 3, 40, 7, 2, 16, {0, 33, 12}}, {DType::f32, 2, 40, 40, 3, 5},
                        {DType::f32, 1, 3000, 2500, 2, 64, {499}},  // many chunks
                        {DType::bf16, 2, 9, 2, 2, 3, {4, 0}},       {DType::u8, 2, 9, 1, 2, 3, {8, 0}},
                        {DType::i32, 2, 9, 2, 1, 1, {7, 3}}};
  sweep(stream, [&](Sweep& s) {
    for (const Case& c : cases) {
      Array<int32_t> starts({c.B});
      for (size_t b = 0; b < c.starts.size(); b++) starts[static_cast<int64_t>(b)] = c.starts[b];
      Operand values{{c.B, c.T, 3 * c.H * c.D}, c.dtype, Layout::contiguous, 0, 200};
      values.window = [&](const TensorView& packed) { return keys_of(packed, c.H, c.D); };
      const auto write = [&](const Views& v) {
        ops.cache_write(stream, v[0], nullptr, v[1], c.starts.empty() ? nullptr : &starts, nullptr);
      };
      s.check("cache_write", 1, {{{c.B, c.S, c.H, c.D}, c.dtype, Layout::contiguous, 0, 200}, values}, write);
      s.check("cache_write", 1, {{{c.B, c.H, c.S, c.D}, c.dtype, Layout::contiguous, 0, 200, heads_first}, values},
              write);
    }
  });
}

TEST(cache_write_empty) {
  const Array<float> cache({2, 5, 1, 4}), values({2, 0, 1, 4}), no_cache({0, 5, 1, 4}), no_values({0, 5, 1, 4});
  ops.cache_write(stream, cache, nullptr, values, nullptr, nullptr);
  ops.cache_write(stream, no_cache, nullptr, no_values, nullptr, nullptr);
}

TEST(cache_write_errors) {
  const Array<float> cache({2, 5, 1, 4}), values({2, 2, 1, 4}), flat({2, 5, 4}), long_values({2, 6, 1, 4}),
      narrow({2, 2, 1, 3}), floats({2});
  const Array<int32_t> ids({2, 2, 1, 4}), three({3});
  Array<int32_t> starts({2});
  TensorView wide = values, wide_starts = starts;
  wide.strides[3] = 2;
  wide_starts.strides[0] = 2;
  const auto error = [&](In c, In v, OptIn s) {
    return error_of([&] { ops.cache_write(stream, c, nullptr, v, s, nullptr); });
  };
  EXPECT(error(flat, values, nullptr) ==
         "ERR_SHAPE: cache_write: expected cache with 4 dimensions, got shape [2, 5, 4]");
  EXPECT(error(cache, flat, nullptr) ==
         "ERR_SHAPE: cache_write: expected values with 4 dimensions, got shape [2, 5, 4]");
  EXPECT(error(cache, narrow, nullptr) ==
         "ERR_SHAPE: cache_write: expected values of shape [2, 2, 1, 4], got [2, 2, 1, 3]");
  EXPECT(error(cache, ids, nullptr) == "ERR_DTYPE: cache_write: expected values of dtype f32, got i32");
  EXPECT(error(cache, long_values, nullptr) ==
         "ERR_SHAPE: cache_write: expected values of at most the cache's 5 tokens, got 6");
  EXPECT(error(cache, wide, nullptr) ==
         "ERR_SHAPE: cache_write: expected values with contiguous heads (stride 1), got stride 2");
  EXPECT(error(cache, values, &floats) == "ERR_DTYPE: cache_write: expected starts of dtype i32, got f32");
  EXPECT(error(cache, values, &three) == "ERR_SHAPE: cache_write: expected starts of shape [2], got [3]");
  EXPECT(error(cache, values, &wide_starts) ==
         "ERR_SHAPE: cache_write: expected starts to be contiguous, got a strided view of shape [2]");

  for (const int32_t start : {-1, 4, INT32_MIN, INT32_MAX}) {
    starts[1] = start;
    ops.cache_write(stream, cache, nullptr, values, &starts, nullptr);
    EXPECT(synchronize(stream) == "ERR_RANGE: cache_write: expected starts from 0 to 3, got " + std::to_string(start));
  }
}

}  // namespace
}  // namespace heed::test
