// Runs programs that nvcc compiled from NVIDIA's headers (programs/*.cu), through the driver API.
#include <algorithm>
#include <cstring>
#include <fstream>
#include <numeric>
#include <sstream>

#include "driver_library.h"

namespace heed::test {

#ifndef HEED_SIMULATOR_PROGRAMS

TEST(programs_left_out) {
  std::fprintf(stderr, "programs_test: left out; there was no nvcc when the tests were built\n");
}

#else

namespace {

constexpr int ordinal = 3;

// A program's kernels, its memory, and launches that wait.
class Program {
 public:
  explicit Program(const char* name) : context_(ordinal), queue_(make_stream()) {
    std::ifstream file(HEED_SIMULATOR_PROGRAMS + std::string("/") + name + ".ptx");
    std::ostringstream text;
    text << file.rdbuf();
    module_ = load(text.str());
  }
  ~Program() {
    for (const CUdeviceptr address : buffers_) EXPECT_SUCCESS(driver().mem_free(address));
    EXPECT_SUCCESS(further().module_unload(module_));
    EXPECT_SUCCESS(driver().stream_destroy(queue_));
  }
  CUdeviceptr buffer(size_t bytes) {
    buffers_.push_back(allocate(bytes));
    return buffers_.back();
  }
  template <class T>
  CUdeviceptr upload(const std::vector<T>& values) {
    const CUdeviceptr address = buffer(values.size() * sizeof(T));
    EXPECT_SUCCESS(driver().memcpy_htod_async(address, values.data(), values.size() * sizeof(T), queue_));
    return address;
  }
  template <class T>
  std::vector<T> read(CUdeviceptr address, size_t count) {
    std::vector<T> values = download<T>(address, count, queue_);
    EXPECT_SUCCESS(driver().stream_synchronize(queue_));
    return values;
  }
  template <class... P>
  void run(const char* kernel, unsigned grid, unsigned block, P... parameters) {
    void* pointers[] = {&parameters...};
    const CUfunction function = find(module_, kernel);
    EXPECT_SUCCESS(driver().launch_kernel(function, grid, 1, 1, block, 1, 1, 0, queue_, pointers, nullptr));
    EXPECT_SUCCESS(driver().stream_synchronize(queue_));
  }

 private:
  Context context_;
  CUstream queue_;
  CUmodule module_ = nullptr;
  std::vector<CUdeviceptr> buffers_;
};

std::vector<int> numbers(size_t n, int bound, uint64_t seed = 1) {
  Random random(seed);
  std::vector<int> values(n);
  for (int& v : values) v = static_cast<int>(random.below(2 * bound + 1)) - bound;
  return values;
}

}  // namespace

// ---- cooperative groups

TEST(programs_groups_tiles) {
  Program program("groups");
  const size_t n = 3 * 96;
  const std::vector<int> in = numbers(n, 1000000);
  const CUdeviceptr sums = program.buffer(n * 4), prefixes = program.buffer(n * 4);
  program.run("tiles", 3, 96, sums, prefixes, program.upload(in));
  const auto got_sums = program.read<int>(sums, n), got_prefixes = program.read<int>(prefixes, n);
  for (size_t i = 0; i < n; i++) {
    const auto tile = in.begin() + static_cast<std::ptrdiff_t>(i / 8 * 8),
               self = in.begin() + static_cast<std::ptrdiff_t>(i);
    EXPECT(got_sums[i] == std::accumulate(tile, tile + 8, 0));
    EXPECT(got_prefixes[i] == std::accumulate(tile, self + 1, 0));
  }
}

TEST(programs_groups_coalesced) {
  Program program("groups");
  const uint32_t n = 128, untouched = 0xabcdef;
  const CUdeviceptr ranks = program.upload(std::vector<uint32_t>(n, untouched));
  const CUdeviceptr sums = program.upload(std::vector<uint32_t>(n, untouched));
  const CUdeviceptr total = program.upload(std::vector<uint32_t>(1, 0));
  program.run("coalesced", 1, n, ranks, sums, total);
  const auto got_ranks = program.read<uint32_t>(ranks, n), got_sums = program.read<uint32_t>(sums, n);
  for (uint32_t i = 0; i < n; i++) {
    uint32_t rank = 0, sum = 0;
    for (uint32_t j = i / 32 * 32; j < i / 32 * 32 + 32; j++) {
      if (j % 3) continue;
      rank += j < i;
      sum += j;
    }
    EXPECT(got_ranks[i] == (i % 3 ? untouched : rank));
    EXPECT(got_sums[i] == (i % 3 ? untouched : sum));
  }
  EXPECT(program.read<uint32_t>(total, 1)[0] == (n + 2) / 3);
}

TEST(programs_groups_labelled) {
  Program program("groups");
  const size_t n = 96;
  const std::vector<int> keys = numbers(n, 3, 7);
  const CUdeviceptr sizes = program.buffer(n * 4);
  program.run("labelled", 1, 96, sizes, program.upload(keys));
  const auto got = program.read<uint32_t>(sizes, n);
  for (size_t i = 0; i < n; i++) {
    const auto warp = keys.begin() + static_cast<std::ptrdiff_t>(i / 32 * 32);
    EXPECT(got[i] == std::count(warp, warp + 32, keys[i]));
  }
}

TEST(programs_groups_block_barrier) {
  Program program("groups");
  const size_t n = 1000;
  const std::vector<int> in = numbers(n, 1000);
  const CUdeviceptr out = program.buffer(n * 4);
  program.run("block_barrier", 1, 1000, out, program.upload(in));
  EXPECT(program.read<int>(out, n) == std::vector<int>(in.rbegin(), in.rend()));
}

// ---- CUB

TEST(programs_blocks_reduce) {
  Program program("blocks");
  const size_t blocks = 3;
  const std::vector<int> in = numbers(blocks * 128, 1000000);
  const CUdeviceptr out = program.buffer(blocks * 3 * 4);
  program.run("reduce", blocks, 128, out, program.upload(in));
  const auto got = program.read<int>(out, blocks * 3);
  for (size_t i = 0; i < got.size(); i++) {
    const auto block = in.begin() + static_cast<std::ptrdiff_t>(i / 3 * 128);
    EXPECT(got[i] == std::accumulate(block, block + 128, 0));
  }
}

TEST(programs_blocks_scan) {
  Program program("blocks");
  const std::vector<int> in = numbers(128, 1000000);
  const CUdeviceptr out = program.buffer(128 * 4);
  program.run("scan", 1, 128, out, program.upload(in));
  const auto got = program.read<int>(out, 128);
  for (size_t i = 0; i < got.size(); i++)
    EXPECT(got[i] == std::accumulate(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(i), 0));
}

TEST(programs_blocks_sort) {
  Program program("blocks");
  const size_t size = 512, n = 2 * size;
  std::vector<float> keys(n);
  std::vector<int> values(n);
  Random random(3);
  for (size_t i = 0; i < n; i++) {
    keys[i] = static_cast<float>(random.below(200)) - 100.5f;  // keys are repeated; their values must keep their order
    values[i] = static_cast<int>(i);
  }
  const CUdeviceptr key_buffer = program.upload(keys), value_buffer = program.upload(values);
  program.run("sort", 2, 128, key_buffer, value_buffer);
  for (size_t block = 0; block < 2; block++) {
    const auto first = values.begin() + static_cast<std::ptrdiff_t>(block * size);
    std::stable_sort(first, first + size,
                     [&](int a, int b) { return keys[static_cast<size_t>(a)] < keys[static_cast<size_t>(b)]; });
  }
  const auto got_keys = program.read<float>(key_buffer, n);
  EXPECT(program.read<int>(value_buffer, n) == values);
  for (size_t i = 0; i < n; i++) EXPECT(got_keys[i] == keys[static_cast<size_t>(values[i])]);
}

// ---- wmma

namespace {

// 2 (C + A·B) with small integers, which 16 bits can represent and f32 adds exactly.
template <class Encode>
void expect_product(const char* kernel, Encode encode) {
  Program program("fragments");
  const std::vector<int> a = numbers(256, 100, 1), b = numbers(256, 100, 2), c = numbers(256, 10000, 3);
  const auto encoded = [&](const std::vector<int>& values) {
    std::vector<uint16_t> bits(values.size());
    std::transform(values.begin(), values.end(), bits.begin(), encode);
    return bits;
  };
  const CUdeviceptr d = program.buffer(256 * 4);
  program.run(kernel, 1, 32, d, program.upload(encoded(a)), program.upload(encoded(b)),
              program.upload(std::vector<float>(c.begin(), c.end())));
  const auto got = program.read<float>(d, 256);
  for (size_t row = 0; row < 16; row++) {
    for (size_t column = 0; column < 16; column++) {
      int sum = c[row * 16 + column];
      for (size_t k = 0; k < 16; k++) sum += a[row * 16 + k] * b[column * 16 + k];
      EXPECT(got[row * 16 + column] == static_cast<float>(2 * sum));
    }
  }
}

}  // namespace

TEST(programs_fragments_f16) {
  expect_product("multiply_f16", [](int value) {
    // An integer of less than 11 bits: sign, exponent of its first bit, and the bits below it.
    if (value == 0) return uint16_t{0};
    const unsigned magnitude = static_cast<unsigned>(std::abs(value));
    const unsigned exponent = 31 - static_cast<unsigned>(__builtin_clz(magnitude));
    return static_cast<uint16_t>((value < 0) << 15 | (exponent + 15) << 10 | ((magnitude << (10 - exponent)) & 0x3ff));
  });
}

TEST(programs_fragments_bf16) {
  expect_product("multiply_bf16", [](int value) {
    // For less than 8 bits: the upper half of the f32.
    const float f = static_cast<float>(value);
    uint32_t bits;
    std::memcpy(&bits, &f, sizeof bits);
    return static_cast<uint16_t>(bits >> 16);
  });
}

#endif

}  // namespace heed::test
