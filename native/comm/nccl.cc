#include "comm/nccl.h"

#include <chrono>
#include <cstdlib>
#include <thread>
#include <utility>

#include "core/platform.h"
#include "cuda/card.h"
#include "cuda/check.h"

namespace heed::comm {
namespace {

constexpr int kSuccess = 0, kInProgress = 7;

struct Library {
#define NCCL_FUNCTION(name, symbol, params) int(*name) params = nullptr;
#include "comm/nccl.def"
#undef NCCL_FUNCTION
  const char* (*error_string)(int code) = nullptr;
  std::string problem;
};

Library open_nccl() {
  Library nccl;
  const char* named = std::getenv("HEED_NCCL");
  void* library = open_library(named && *named ? named : "libnccl.so.2");
  if (!library) {
    nccl.problem = named && *named
                       ? "the NCCL library that HEED_NCCL names cannot be loaded: " + library_problem()
                       : "expected NCCL for tensors on a GPU, but libnccl.so.2 does not load; install it or name it with "
                         "HEED_NCCL";
    return nccl;
  }
  const auto missing = [&](const char* symbol) {
    if (nccl.problem.empty()) nccl.problem = std::string("the NCCL library lacks ") + symbol + ": expected NCCL 2.10 or later";
  };
#define NCCL_FUNCTION(name, symbol, params)                                             \
  nccl.name = reinterpret_cast<int(*) params>(library_symbol(library, #symbol));        \
  if (!nccl.name) missing(#symbol);
#include "comm/nccl.def"
#undef NCCL_FUNCTION
  nccl.error_string = reinterpret_cast<const char* (*)(int)>(library_symbol(library, "ncclGetErrorString"));
  if (!nccl.error_string) missing("ncclGetErrorString");
  return nccl;
}

// Throws if the library is not usable.
const Library& nccl() {
  static const Library* const once = new Library(open_nccl());
  if (!once->problem.empty()) fail(Code::distributed, "%s", once->problem.c_str());
  return *once;
}

void expect_success(int code, const char* doing) {
  if (code != kSuccess && code != kInProgress)
    fail(Code::distributed, "%s: NCCL's error %d: %s", doing, code, nccl().error_string(code));
}

int type_of(Wire wire) {
  constexpr int types[] = {7, 8, 9, 1};  // ncclFloat32, ncclFloat64, ncclBfloat16, ncclUint8
  return types[static_cast<int>(wire)];
}

int op_of(Reduction reduction) { return reduction == Reduction::sum ? 0 : 2; }  // ncclSum, ncclMax

void set(Outcome& outcome, const Error& error) {
  const std::lock_guard lock(outcome.mutex);
  if (!outcome.error) outcome.error = error;
}

}  // namespace

NcclId Nccl::unique_id() {
  NcclId id = {};
  expect_success(nccl().get_unique_id(&id), "ncclGetUniqueId");
  return id;
}

Nccl* Nccl::open(cuda::Card& card, const NcclId& id, int rank, int size, std::function<void(const Error*)> opened) {
  auto* made = new Nccl(card);
  std::thread([=, opened = std::move(opened)] { made->work(id, rank, size, opened); }).detach();
  return made;
}

void Nccl::add(std::unique_ptr<DeviceOperation> operation) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(operation));
  }
  wake_.notify_one();
}

void Nccl::fail(const Error& error) {
  {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = error;
  }
  wake_.notify_one();
}

void Nccl::work(const NcclId& id, int rank, int size, const std::function<void(const Error*)>& opened) {
  try {
    card_.make_current("collectives");
    cuda::expect_success(cuda::driver()->stream_create(&stream_, cuda::CU_STREAM_NON_BLOCKING), "collectives",
                         "making a stream");
    expect_success(nccl().comm_init_rank(&comm_, size, id, rank), "ncclCommInitRank");
    opened(nullptr);
  } catch (const Error& error) {
    fail(error);
    opened(&error);
  }
  for (;;) {
    std::unique_ptr<DeviceOperation> next;
    std::optional<Error> failure;
    {
      using std::chrono::microseconds;
      std::unique_lock lock(mutex_);
      const auto ready = [this] { return !waiting_.empty() || (failure_ && comm_); };
      if (running_.empty())
        wake_.wait(lock, ready);
      else
        wake_.wait_for(lock, microseconds(200), ready);
      failure = failure_;
      if (!waiting_.empty()) {
        next = std::move(waiting_.front());
        waiting_.pop_front();
      }
    }
    if (failure) abort(*failure);
    if (next) {
      try {
        if (failure) throw *failure;
        enqueue(*next);
        running_.push_back(std::move(next));
      } catch (const Error& error) {
        set(*next->outcome, error);
        next->enqueued->signal();
        if (error.code() != Code::internal) fail(error);
      }
    }
    if (!failure) look();
  }
}

void Nccl::enqueue(DeviceOperation& operation) {
  const Operation& o = operation.what;
  const cuda::Driver& d = *cuda::driver();
  operation.recorded->wait();
  const char* op = name_of(o.kind);
  cuda::expect_success(d.stream_wait_event(stream_, operation.begin->event, 0), op, "waiting for the device");
  const Library& n = nccl();
  const auto count = static_cast<size_t>(o.count);
  const int type = type_of(o.wire), reduction = op_of(o.reduction);
  int code = kSuccess;
  switch (o.kind) {
    case Kind::all_reduce:
      code = n.all_reduce(o.in, o.out, count, type, reduction, comm_, stream_);
      break;
    case Kind::broadcast:
      code = n.broadcast(o.in, o.out, count, type, o.root, comm_, stream_);
      break;
    case Kind::reduce_scatter:
      code = n.reduce_scatter(o.in, o.out, count, type, reduction, comm_, stream_);
      break;
    case Kind::all_gather:
      code = n.all_gather(o.in, o.out, count, type, comm_, stream_);
      break;
    case Kind::barrier:
      break;
  }
  expect_success(code, op);
  cuda::expect_success(d.event_record(operation.end->event, stream_), op, "recording an event");
  operation.enqueued->signal();
}

// Finds out what has ended, and what has failed meanwhile.
void Nccl::look() {
  while (!running_.empty()) {
    const cuda::CUresult result = cuda::driver()->event_query(running_.front()->end->event);
    if (result == cuda::CUDA_ERROR_NOT_READY) break;
    running_.pop_front();
  }
  if (running_.empty()) return;
  int code = kSuccess;
  nccl().comm_get_async_error(comm_, &code);
  try {
    expect_success(code, name_of(running_.front()->what.kind));
  } catch (const Error& error) {
    fail(error);
  }
}

void Nccl::abort(const Error& error) {
  for (const auto& operation : running_) set(*operation->outcome, error);
  running_.clear();
  if (comm_) nccl().comm_abort(std::exchange(comm_, nullptr));
}

}  // namespace heed::comm
