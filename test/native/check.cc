// The harness: registered tests, failures, and comparison.
#include <cstdarg>
#include <future>

#include "check.h"

namespace heed::test {

static int failures = 0;
static std::string running;

std::vector<Test>& tests() {
  static std::vector<Test> list;
  return list;
}

void report(const char* format, ...) {
  failures++;
  std::fprintf(stderr, "FAIL %s: ", running.c_str());
  va_list args;
  va_start(args, format);
  std::vfprintf(stderr, format, args);
  va_end(args);
  std::fputc('\n', stderr);
}

namespace {
class Waiter final : public Fence {
 public:
  explicit Waiter(std::promise<std::string>& promise) : promise_(promise) {}
  void reached(Failures failures) noexcept override {
    const Error* error = failures.operations.empty() ? nullptr : &failures.operations.front().error;
    promise_.set_value(error ? std::string(error->name()) + ": " + error->what() : "");
  }

 private:
  std::promise<std::string>& promise_;
};
}  // namespace

std::string synchronize(Stream& stream) {
  std::promise<std::string> promise;
  auto result = promise.get_future();
  stream.fence(new Waiter(promise));
  return result.get();
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return std::string(error.name()) + ": " + error.what();
  }
  return "";
}

void expect_near(const char* label, const float* got, const double* expected, int64_t n, double absolute,
                 double relative) {
  int64_t worst = -1, wrong = 0;
  double excess = 0;
  for (int64_t i = 0; i < n; i++) {
    const double error = std::fabs(got[i] - expected[i]) - (absolute + relative * std::fabs(expected[i]));
    if (error <= 0) continue;  // false for NaN
    wrong++;
    if (worst < 0 || !(error <= excess)) {
      worst = i;
      excess = error;
    }
  }
  if (wrong)
    report("%s: %lld of %lld elements off, worst at %lld: got %.9g, expected %.9g", label,
           static_cast<long long>(wrong), static_cast<long long>(n), static_cast<long long>(worst), got[worst],
           expected[worst]);
}

bool run(const Test& test, const std::string& label) {
  const int before = failures;
  running = label;
  try {
    cpu::Stream stream;
    test.body(stream, cpu::ops());
    const std::string error = synchronize(stream);
    if (!error.empty()) report("failed on the device: %s", error.c_str());
  } catch (const Error& error) {
    report("threw %s: %s", error.name(), error.what());
  }
  return failures == before;
}

}  // namespace heed::test
