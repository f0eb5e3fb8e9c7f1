#include "core/error.h"

#include <cstdarg>
#include <cstdio>

namespace heed {

Error::Error(Code code, const char* message) noexcept : code_(code) {
  std::snprintf(message_, sizeof message_, "%s", message);
}

const char* Error::name() const noexcept {
  switch (code_) {
    case Code::shape:
      return "ERR_SHAPE";
    case Code::dtype:
      return "ERR_DTYPE";
    case Code::device:
      return "ERR_DEVICE";
    case Code::disposed:
      return "ERR_DISPOSED";
    case Code::range:
      return "ERR_RANGE";
    case Code::oom:
      return "ERR_OOM";
    case Code::argument:
      return "ERR_ARGUMENT";
    case Code::cuda:
      return "ERR_CUDA";
    case Code::distributed:
      return "ERR_DISTRIBUTED";
    case Code::internal:
      return "ERR_INTERNAL";
  }
  return "ERR_INTERNAL";
}

void fail(Code code, const char* format, ...) {
  char message[496];
  va_list args;
  va_start(args, format);
  std::vsnprintf(message, sizeof message, format, args);
  va_end(args);
  throw Error(code, message);
}

}  // namespace heed
