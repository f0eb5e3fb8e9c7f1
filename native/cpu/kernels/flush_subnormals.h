// Softmax, attention and cross-entropy treat subnormal numbers as zeros: a probability, and whatever is computed from
// probabilities, is 0 if it is below the smallest normal f32, 2^-126. Scores that spread by more than 87 have such
// probabilities, and so have the sums and gradients that begin with them. Many processors take hundreds of cycles for
// every instruction that reads or writes one, so a test in e^x alone would not be enough.
//
// The mode is a thread's own and is set in the tasks of these operations alone, because other operations do compute
// with subnormal numbers. On CUDA the same operations are compiled with .ftz instructions (cuda/kernels/images.json).
// f16 is not affected: its subnormal numbers are normal in f32, in which kernels compute.
#pragma once
#include "cpu/kernels/kernel.h"

namespace heed::cpu::HEED_ISA {
namespace {

// While it lives, f32 arithmetic of the thread reads and writes subnormal numbers as zeros. Conversions of f16 do not.
class FlushSubnormals {
 public:
  FlushSubnormals() : before_(mode()) { set_mode(before_ | kFlush); }
  ~FlushSubnormals() { set_mode(before_); }
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;

 private:
  // Compilers move no access to memory across these functions, and kernels compute from memory to memory.
#if defined(__x86_64__)
  using Mode = uint32_t;
  static constexpr Mode kFlush = 1 << 15 | 1 << 6;  // of results and of operands
  static Mode mode() { return _mm_getcsr(); }
  static void set_mode(Mode mode) { _mm_setcsr(mode); }
#elif defined(__aarch64__)
  using Mode = uint64_t;
  static constexpr Mode kFlush = 1 << 24;
  static Mode mode() {
    Mode mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode)::"memory");
    return mode;
  }
  static void set_mode(Mode mode) { __asm__ volatile("msr fpcr, %0" ::"r"(mode) : "memory"); }
#else
  using Mode = uint32_t;
  static constexpr Mode kFlush = 0;  // heed knows no such mode here
  static Mode mode() { return 0; }
  static void set_mode(Mode) {}
#endif

  const Mode before_;
};

}  // namespace
}  // namespace heed::cpu::HEED_ISA
