// heed_test [--isa NAME] [NAME PART]: runs the native tests on every instruction set of this machine, or on one of
// them; "best" means the one that the addon would choose. The exit code is 1 if any test fails or none runs. If AVX-512
// has better products, plain AVX-512 runs only the tests of products.
#include <cstring>

#include "check.h"

namespace {

// Returns true for tests of operations that multiply bf16 or bytes.
bool of_products(const char* name) {
  for (const char* part : {"gemm", "attention", "quantize", "short"})
    if (std::strstr(name, part)) return true;
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace heed;
  const char *only = nullptr, *part = nullptr;
  for (int i = 1; i < argc; i++) {
    if (!std::strcmp(argv[i], "--isa") && i + 1 < argc)
      only = argv[++i];
    else
      part = argv[i];
  }
  if (only && !std::strcmp(only, "best")) only = cpu::isa_name();
  int passed = 0, failed = 0;
  for (const char* isa : {"portable", "avx2", "avx512", "avx512vnni", "avx512bf16", "avx512amx"}) {
    if (only && std::strcmp(isa, only)) continue;
    // Each AVX-512 variant is the variant before it with other products, and the same code in everything else.
    if (!only && !std::strcmp(isa, "avx512vnni") && cpu::isa_supported("avx512bf16")) continue;
    const bool products = (!std::strcmp(isa, "avx512") && cpu::isa_supported("avx512vnni")) ||
                          (!only && !std::strcmp(isa, "avx512amx") && cpu::isa_supported("avx512bf16"));
    if (!cpu::select_isa(isa)) {
      std::printf("skipped: this build or this machine has no %s\n", isa);
      continue;
    }
    for (const test::Test& test : test::tests()) {
      if (part && !std::strstr(test.name, part)) continue;
      if (products && !of_products(test.name)) continue;
      (test::run(test, std::string(test.name) + " (" + isa + ")") ? passed : failed)++;
    }
  }
  std::printf("native: %d passed, %d failed\n", passed, failed);
  return failed || !passed ? 1 : 0;
}
