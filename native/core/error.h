// The one error type of the native side. The addon turns it into a HeedError with the same code.
//
// `fail` takes a printf format and is not a template: kernels are compiled once for each instruction set, and a
// template shared between those copies could be linked in its AVX-512 form and run on a machine without AVX-512.
#pragma once
#include <exception>

namespace heed {

enum class Code : unsigned char { shape, dtype, device, disposed, range, oom, argument, cuda, internal, distributed };

class Error : public std::exception {
 public:
  Error(Code code, const char* message) noexcept;
  Code code() const noexcept { return code_; }
  const char* name() const noexcept;  // "ERR_SHAPE", ...
  const char* what() const noexcept override { return message_; }

 private:
  Code code_;
  char message_[496];
};

// MinGW's printf takes "%zu" as elsewhere only if asked to (CMakeLists.txt).
#ifdef __MINGW32__
#define HEED_PRINTF gnu_printf
#else
#define HEED_PRINTF printf
#endif
[[noreturn]] __attribute__((format(HEED_PRINTF, 2, 3), cold)) void fail(Code code, const char* format, ...);

}  // namespace heed
