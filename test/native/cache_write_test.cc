// cache_write: every dtype's size, strided views, starts, what must stay untouched, and every error.
#include "check.h"

namespace heed::test {
namespace {

template <class T>
void expect_written(Stream& stream, const Ops& ops, int64_t B, int64_t S, int64_t T_new, int64_t H, int64_t D,
                    const std::vector<int32_t>& starts) {
  Array<T> cache({B, S, H, D}), packed({B, T_new, 3 * H * D});
  Array<int32_t> first({B});
  for (int64_t b = 0; b < B && !starts.empty(); b++) first[b] = starts[b];
  for (int64_t i = 0; i < cache.size; i++) cache[i] = static_cast<T>(200);
  for (int64_t i = 0; i < packed.size; i++) packed[i] = static_cast<T>(i % 199);
  TensorView values = packed;  // the keys of packed queries, keys and values
  values.rank = 4;
  values.shape[2] = H;
  values.shape[3] = D;
  values.strides[2] = D;
  values.strides[3] = 1;
  values.data = packed.view.template ptr<T>() + H * D;

  ops.cache_write(stream, cache, values, starts.empty() ? nullptr : &first);
  const std::string error = synchronize(stream);
  if (!error.empty()) return report("failed on the device: %s", error.c_str());
  int64_t wrong = 0;
  for (int64_t b = 0; b < B; b++)
    for (int64_t s = 0; s < S; s++)
      for (int64_t i = 0; i < H * D; i++) {
        const int64_t t = s - first[b];
        const T expected = t < 0 || t >= T_new ? static_cast<T>(200) : packed[((b * T_new + t) * 3 + 1) * H * D + i];
        wrong += cache[(b * S + s) * H * D + i] != expected;
      }
  EXPECT(wrong == 0);
}

TEST(cache_write) {
  expect_written<float>(stream, ops, 3, 40, 7, 2, 16, {0, 33, 12});
  expect_written<float>(stream, ops, 2, 40, 40, 3, 5, {});
  expect_written<float>(stream, ops, 1, 3000, 2500, 2, 64, {499});  // many chunks
  expect_written<uint8_t>(stream, ops, 2, 9, 1, 2, 3, {8, 0});
  expect_written<int32_t>(stream, ops, 2, 9, 2, 1, 1, {7, 3});
}

TEST(cache_write_heads_first) {
  // A cache kept as [B, H, S, D].
  Array<float> memory({2, 3, 10, 4}), values({2, 2, 3, 4});
  Array<int32_t> starts({2});
  starts[0] = 8;
  starts[1] = 1;
  TensorView cache = memory;
  cache.shape[1] = 10;
  cache.shape[2] = 3;
  cache.strides[1] = 4;
  cache.strides[2] = 40;
  Random random(1);
  random.fill(values, 1, 2);
  ops.cache_write(stream, cache, values, &starts);
  EXPECT(synchronize(stream).empty());
  for (int64_t b = 0; b < 2; b++)
    for (int64_t h = 0; h < 3; h++)
      for (int64_t s = 0; s < 10; s++)
        for (int64_t d = 0; d < 4; d++) {
          const int64_t t = s - starts[b];
          EXPECT(memory[((b * 3 + h) * 10 + s) * 4 + d] ==
                 (t < 0 || t > 1 ? 0 : values[((b * 2 + t) * 3 + h) * 4 + d]));
        }
}

TEST(cache_write_empty) {
  const Array<float> cache({2, 5, 1, 4}), values({2, 0, 1, 4}), no_cache({0, 5, 1, 4}), no_values({0, 5, 1, 4});
  ops.cache_write(stream, cache, values, nullptr);
  ops.cache_write(stream, no_cache, no_values, nullptr);
}

TEST(cache_write_errors) {
  const Array<float> cache({2, 5, 1, 4}), values({2, 2, 1, 4}), flat({2, 5, 4}), long_values({2, 6, 1, 4}),
      narrow({2, 2, 1, 3}), floats({2});
  const Array<int32_t> ids({2, 2, 1, 4}), three({3});
  Array<int32_t> starts({2});
  TensorView wide = values, wide_starts = starts;
  wide.strides[3] = 2;
  wide_starts.strides[0] = 2;
  const auto error = [&](In c, In v, OptIn s) { return error_of([&] { ops.cache_write(stream, c, v, s); }); };
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
    ops.cache_write(stream, cache, values, &starts);
    EXPECT(synchronize(stream) == "ERR_RANGE: cache_write: expected starts from 0 to 3, got " + std::to_string(start));
  }
}

}  // namespace
}  // namespace heed::test
