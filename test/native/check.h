// The harness of the native tests: TEST bodies that run once for each instruction set of this machine, tensors with
// guarded ends, and comparison with a float64 reference.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/params.h"
#include "cpu/isa.h"
#include "cpu/stream.h"
#include "cpu/thread_pool.h"

namespace heed::test {

using cpu::Stream;
using Ops = OpTable<Stream>;

struct Test {
  const char* name;
  void (*body)(Stream& stream, const Ops& ops);
};
std::vector<Test>& tests();
struct Registration {
  Registration(const char* name, void (*body)(Stream&, const Ops&)) { tests().push_back({name, body}); }
};

// TEST(gemm_tails) { ops.gemm(stream, …); …; EXPECT_NEAR_ALL(…); }
#define TEST(name)                                                                                                   \
  static void test_##name([[maybe_unused]] heed::test::Stream& stream, [[maybe_unused]] const heed::test::Ops& ops); \
  static const heed::test::Registration registration_##name(#name, &test_##name);                                    \
  static void test_##name([[maybe_unused]] heed::test::Stream& stream, [[maybe_unused]] const heed::test::Ops& ops)

// Records a failure of the running test (printf format); the test continues.
__attribute__((format(printf, 1, 2))) void report(const char* format, ...);

#define EXPECT(condition)                                                                       \
  do {                                                                                          \
    if (!(condition)) heed::test::report("%s:%d: expected %s", __FILE__, __LINE__, #condition); \
  } while (0)

// Memory of exactly the size of the view, from malloc, so that AddressSanitizer finds an access beyond the end.
template <class T>
class Array {
 public:
  explicit Array(std::initializer_list<int64_t> shape) : Array(std::vector<int64_t>(shape)) {}
  explicit Array(const std::vector<int64_t>& shape) {
    view.dtype = sizeof(T) == 1 ? DType::u8 : std::is_same_v<T, int32_t> ? DType::i32 : DType::f32;
    view.rank = static_cast<int32_t>(shape.size());
    int64_t n = 1;
    for (int i = view.rank - 1; i >= 0; i--) {
      view.shape[i] = shape[i];
      view.strides[i] = n;
      n *= shape[i];
    }
    values.reset(new T[n]());
    view.data = values.get();
    size = n;
  }
  T& operator[](int64_t i) { return values[i]; }
  const T& operator[](int64_t i) const { return values[i]; }
  operator const TensorView&() const { return view; }
  const TensorView* operator&() const { return &view; }

  TensorView view;
  std::unique_ptr<T[]> values;
  int64_t size;
};

// A small random generator (xorshift), so that tests do not depend on the code that they test.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 1) {}
  uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }
  float uniform(float low = -1, float high = 1) {
    return low + (high - low) * static_cast<float>(next() >> 40) / static_cast<float>(1 << 24);
  }
  int64_t below(int64_t n) { return static_cast<int64_t>(next() >> 1) % n; }
  void fill(Array<float>& array, float low = -1, float high = 1) {
    for (int64_t i = 0; i < array.size; i++) array[i] = uniform(low, high);
  }

 private:
  uint64_t state_;
};

// Runs one test and returns false if it failed.
bool run(const Test& test, const std::string& label);

// Waits for the queue and returns its failure, or "" (for tests of device-side errors).
std::string synchronize(Stream& stream);
// Returns the error that a call throws as "ERR_SHAPE: message", or "" if it throws none.
std::string error_of(const std::function<void()>& call);

// Checks |got - expected| <= absolute + relative · |expected| for all elements, and reports the worst one with its
// label.
void expect_near(const char* label, const float* got, const double* expected, int64_t n, double absolute,
                 double relative);

}  // namespace heed::test
