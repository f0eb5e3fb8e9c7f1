// A collective operation on its way: what every process of the run calls in the same order.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/detour.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/host_buffer.h"

namespace heed::comm {

enum class Kind : uint8_t { all_reduce, broadcast, reduce_scatter, all_gather, barrier };
constexpr int kKinds = 5;
constexpr const char* name_of(Kind kind) {
  constexpr const char* names[] = {"allReduce", "broadcast", "reduceScatter", "allGather", "barrier"};
  return names[static_cast<int>(kind)];
}

enum class Reduction : uint8_t { sum, max };

// Types of elements on the wire: those of tensors, and two that only numbers of the host have.
enum class Wire : uint8_t { f32, f64, bf16, byte };
constexpr size_t size_of(Wire wire) {
  constexpr size_t sizes[] = {4, 8, 2, 1};
  return sizes[static_cast<int>(wire)];
}

struct Operation {
  Kind kind = Kind::barrier;
  Reduction reduction = Reduction::sum;
  Wire wire = Wire::byte;
  int root = 0;
  // `in` and `out` are equal for operations in place. `count` is the number of elements that this process gives
  // (allGather), gets (reduceScatter), or both.
  const void* in = nullptr;
  void* out = nullptr;
  int64_t count = 0;

  // Signalled when `in` is ready; null if it is ready at once.
  std::shared_ptr<HostBuffer> ready;
  // Signalled when the operation has ended or failed.
  std::shared_ptr<HostBuffer> done;
  // For tensors on a CUDA device, the stream that NCCL uses; null for operations of MPI. `ready` is then signalled when
  // the detour may begin, and `done` when it has been left to the streams to order input, operation and result.
  std::shared_ptr<Detour> detour;
  double begun = 0;  // when this process was ready to take part, in seconds of the steady clock
  // Called on the communicator's thread when the operation has ended; null error if it has succeeded. May be empty.
  std::function<void(const Error* error)> ended;
  // Memory of the host that `in` and `out` point to, if it belongs to the operation.
  std::vector<char> data;
};

}  // namespace heed::comm
