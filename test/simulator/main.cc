// heed_simulator_test [NAME PART]: runs the tests of the software CUDA device. The exit code is 1 if any fails.
#include <cstring>

#include "check.h"

int main(int argc, char** argv) {
  using namespace heed;
  int passed = 0, failed = 0;
  for (const test::Test& test : test::tests()) {
    if (argc > 1 && !std::strstr(test.name, argv[1])) continue;
    (test::run(test, test.name) ? passed : failed)++;
  }
  std::printf("simulator: %d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}
