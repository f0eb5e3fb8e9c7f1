// What a kernel found wrong with the data it was given (an id outside of the vocabulary): a report in device memory,
// which the host turns into an error at the next fence. It is of the first operation that found something and, of what
// that found, of the lowest position, in whichever order blocks run. Shared by device and host code.
#pragma once
#include <cstdint>

namespace heed::cuda {

enum class FaultKind : uint32_t { none, id, target, start, history, key_length, position };

// In one word, so that the lowest position and its value are found together.
struct Finding {
  static constexpr int kValueBits = 33;  // of any i32 and any position; the rest is for where it was found
  static constexpr uint64_t kValues = (uint64_t{1} << kValueBits) - 1;
  static constexpr int64_t kLast = (int64_t{1} << (64 - kValueBits)) - 1;
};

struct FaultReport {
  uint64_t owner;  // `run` of the operation whose report it is; 0 before there is one
  uint64_t found;  // ~(position, value) of the lowest position: 0 before there is one
  FaultKind kind;
  int64_t limit, length;  // positions are counted in rows of `length`, where that is not 0
  uint64_t op;            // the host's const char*
};

// What sets the owner's highest byte to `kClosedByte`: its operation's next run has no part in it.
constexpr uint64_t kClosed = uint64_t{0x80} << 56;
constexpr unsigned char kClosedByte = 0x80;

// In the parameters of a kernel that can find something wrong; from Stream::fault().
struct FaultSink {
  FaultReport* report;
  uint64_t op;
  uint64_t run;  // another one for each operation that is enqueued
};

}  // namespace heed::cuda
