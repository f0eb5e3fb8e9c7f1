// heed_test [NAME PART]: runs the native tests on every instruction set this machine has; exit code 1 if any fails.
#include <cstring>

#include "check.h"

int main(int argc, char** argv) {
  using namespace heed;
  int passed = 0, failed = 0;
  for (const char* isa : {"portable", "avx2", "avx512", "avx512vnni", "avx512bf16"}) {
    // The last one is that before it and products of bf16.
    if (!std::strcmp(isa, "avx512vnni") && cpu::isa_supported("avx512bf16")) continue;
    if (!cpu::select_isa(isa)) {
      std::printf("skipped: this machine has no %s\n", isa);
      continue;
    }
    for (const test::Test& test : test::tests()) {
      if (argc > 1 && !std::strstr(test.name, argv[1])) continue;
      (test::run(test, std::string(test.name) + " (" + isa + ")") ? passed : failed)++;
    }
  }
  std::printf("native: %d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}
