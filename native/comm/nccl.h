// Collective operations between CUDA devices by NCCL, which is loaded at run time: libnccl.so.2, or the library that
// HEED_NCCL names. A thread of its own makes all calls, because some of them block. Operations run on a stream of their
// own, beside that of the device: they wait for an event of the device's stream, which later waits for an event of theirs.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "comm/operation.h"
#include "cuda/event.h"
#include "cuda/stream.h"

namespace heed::cuda {
class Card;
}

namespace heed::comm {

// Types of NCCL's interface (nccl.h).
struct NcclId {
  char bytes[128];
};
using NcclComm = struct ncclComm*;

// What is known of an operation's end; shared by the thread and the device's stream.
struct Outcome {
  std::mutex mutex;
  std::optional<Error> error;
};

// An operation on a device, in the order of its stream.
struct DeviceOperation {
  Operation what;
  std::shared_ptr<cuda::Event> begin, end;
  std::shared_ptr<HostBuffer> recorded;  // signalled when `begin` is in the device's stream
  std::shared_ptr<HostBuffer> enqueued;  // signalled when `end` is in NCCL's stream, or never will be
  std::shared_ptr<Outcome> outcome;
};

class Nccl {
 public:
  // Makes the name of a new communicator, which one process passes to all. Throws ERR_DISTRIBUTED without the library.
  static NcclId unique_id();

  // Joins the communicator on a thread, and calls `opened` there, with an error if that has failed. Never destroyed.
  static Nccl* open(cuda::Card& card, const NcclId& id, int rank, int size, std::function<void(const Error*)> opened);

  // JavaScript thread only.
  void add(std::unique_ptr<DeviceOperation> operation);
  // Ends what is on its way, with this error, and whatever follows. Any thread.
  void fail(const Error& error);

 private:
  explicit Nccl(cuda::Card& card) : card_(card) {}
  void work(const NcclId& id, int rank, int size, const std::function<void(const Error*)>& opened);
  void enqueue(DeviceOperation& operation);
  void look();
  void abort(const Error& error);

  cuda::Card& card_;
  cuda::CUstream stream_ = nullptr;
  NcclComm comm_ = nullptr;
  std::deque<std::unique_ptr<DeviceOperation>> running_;  // thread only
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<DeviceOperation>> waiting_;  // guarded by mutex_, like the member that follows
  std::optional<Error> failure_;
};

}  // namespace heed::comm
