#include "simulator/nccl/communicator.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <utility>

#include "simulator/nccl/combine.h"

namespace heed::comm {

using namespace nccl_simulator;
using cuda::CUDA_SUCCESS;
using cuda::CUresult;

namespace {

double microseconds() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void pause() { std::this_thread::sleep_for(std::chrono::microseconds(100)); }

NcclResult of_cuda(CUresult result) { return result == CUDA_SUCCESS ? success : unhandled_cuda_error; }

}  // namespace

struct ncclComm::Operation {
  uint64_t number;
  Call call;
  const char* in;
  char* out;
  cuda::CUstream stream;
  NcclType type() const { return static_cast<NcclType>(call.type); }
  size_t element() const { return nccl_simulator::size_of(type()); }
};

ncclComm::ncclComm(int size, std::string name, int rank, bool blocking)
    : size_(size),
      rank_(rank),
      blocking_(blocking),
      driver_(*nccl_simulator::driver()),
      room_(name, rank, size),
      thread_([this] { work(); }) {
  driver_.context_get_current(&context_);
}

ncclComm::~ncclComm() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  thread_.join();
  while (pending_ > 0) pause();
  driver_.context_set_current(context_);
  for (char* memory : {own_, result_})
    if (memory) driver_.mem_free_host(memory);
}

std::string ncclComm::last_error() const {
  const std::lock_guard lock(mutex_);
  return last_error_;
}

void ncclComm::fail(Result error, const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    if (state_ != success && state_ != in_progress) return;
    last_error_ = why;
    state_ = error;
  }
  settled_.notify_all();
}

ncclComm::Result ncclComm::start(std::function<Result()> body) {
  std::unique_lock lock(mutex_);
  if (state_ == in_progress) {
    last_error_ = "the communicator is used before its last call has settled";
    return invalid_argument;
  }
  if (state_ != success) return state_;
  state_ = in_progress;
  calls_.push_back(std::move(body));
  wake_.notify_one();
  if (!blocking_) return in_progress;
  settled_.wait(lock, [this] { return state_ != in_progress; });
  return state_;
}

void ncclComm::work() {
  for (;;) {
    std::function<Result()> call;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return !calls_.empty() || ending_; });
      if (calls_.empty()) return;
      call = std::move(calls_.front());
      calls_.pop_front();
    }
    driver_.context_set_current(context_);
    const Result result = call();
    if (result != success) {
      fail(result, "the call has failed");
      continue;
    }
    {
      const std::lock_guard lock(mutex_);
      if (state_ == in_progress) state_ = success;
    }
    settled_.notify_all();
  }
}

bool ncclComm::faulty(uint64_t operation) const {
  return settings_.fault != Settings::Fault::none && settings_.rank == rank_ && settings_.operation == operation;
}

void ncclComm::hang() const {
  while (!aborted_) pause();
}

ncclComm::Result ncclComm::join() {
  if (faulty(0) && settings_.fault == Settings::Fault::error && !settings_.later) return settings_.error;
  return start([this]() -> Result {
    if (faulty(0)) {
      if (settings_.fault == Settings::Fault::error) return settings_.error;
      hang();
      return internal_error;
    }
    if (!room_.meet(aborted_)) return internal_error;
    const auto allocate = [&](char** memory, size_t bytes) {
      return driver_.mem_host_alloc(reinterpret_cast<void**>(memory), bytes, 0);
    };
    const CUresult own = allocate(&own_, Room::kSlot);
    return of_cuda(own ? own : allocate(&result_, Room::kSlot * static_cast<size_t>(size_)));
  });
}

ncclComm::Result ncclComm::enqueue(const Call& call, const void* in, void* out, cuda::CUstream stream) {
  const auto operation = std::make_shared<Operation>(
      Operation{++operations_, call, static_cast<const char*>(in), static_cast<char*>(out), stream});
  if (!operation->element() || call.root < 0 || call.root >= size_ || !in || !out) return invalid_argument;
  if (faulty(operation->number) && settings_.fault == Settings::Fault::error && !settings_.later)
    return settings_.error;
  return start([this, operation] { return issue(operation); });
}

// Puts an operation into its stream, in pieces that fit into a slot.
ncclComm::Result ncclComm::issue(const std::shared_ptr<Operation>& operation) {
  const Operation& o = *operation;
  const size_t element = o.element(), most = Room::kSlot / element, count = o.call.count;
  const auto read = [&](size_t from, size_t n) {
    return driver_.memcpy_dtoh_async(own_, cuda::address(o.in + from * element), n * element, o.stream);
  };
  const auto write = [&](size_t to, int slot, size_t n) {
    return driver_.memcpy_htod_async(cuda::address(o.out + to * element),
                                     result_ + Room::kSlot * static_cast<size_t>(slot), n * element, o.stream);
  };
  const bool scatters = o.call.kind == Call::reduce_scatter, gathers = o.call.kind == Call::all_gather;
  const int parts = scatters ? size_ : 1;
  for (int part = 0; part < parts; part++)
    for (size_t at = 0; at < count; at += most) {
      const size_t n = std::min(most, count - at);
      const bool shows = o.call.kind != Call::broadcast || rank_ == o.call.root;
      const bool first = part == 0 && at == 0, last = part == parts - 1 && at + n == count;
      if (shows && read(static_cast<size_t>(part) * count + at, n)) return unhandled_cuda_error;
      if (const Result wrong = exchange(operation, n, first, last)) return wrong;
      if (scatters && part != rank_) continue;
      for (int r = 0; r < (gathers ? size_ : 1); r++)
        if (write(static_cast<size_t>(r) * count + at, r, n)) return unhandled_cuda_error;
    }
  return success;
}

ncclComm::Result ncclComm::exchange(const std::shared_ptr<Operation>& operation, size_t count, bool first, bool last) {
  pending_++;
  auto* body = new std::function<void()>([this, operation, count, first, last] {
    run(*operation, count, first, last);
    pending_--;
  });
  const auto call = [](void* data) {
    const std::unique_ptr<std::function<void()>> body(static_cast<std::function<void()>*>(data));
    (*body)();
  };
  const CUresult result = driver_.launch_host_func(operation->stream, call, body);
  if (result == CUDA_SUCCESS) return success;
  delete body;
  pending_--;
  return unhandled_cuda_error;
}

void ncclComm::run(Operation& operation, size_t count, bool first, bool last) {
  if (aborted_) return;
  if (first) log(operation, "begin");
  if (first && faulty(operation.number)) {
    if (settings_.fault == Settings::Fault::error) fail(settings_.error, "a fault of the test");
    return hang();
  }
  std::memcpy(room_.slot(rank_), own_, count * operation.element());
  room_.call(rank_) = operation.call;
  if (!room_.meet(aborted_)) return;
  for (int r = 0; r < size_; r++)
    if (!(room_.call(r) == operation.call)) {
      fail(invalid_usage, "rank " + std::to_string(r) + " calls another " + name_of(room_.call(r).kind));
      return hang();
    }
  combine(operation, count);
  if (last) std::this_thread::sleep_for(std::chrono::microseconds(settings_.delay));
  if (!room_.meet(aborted_)) return;
  if (last) log(operation, "end");
}

void ncclComm::combine(const Operation& operation, size_t count) const {
  const size_t bytes = count * operation.element();
  const bool reduces = operation.call.kind == Call::all_reduce || operation.call.kind == Call::reduce_scatter;
  const bool gathers = operation.call.kind == Call::all_gather;
  if (gathers) {
    for (int r = 0; r < size_; r++) std::memcpy(result_ + Room::kSlot * static_cast<size_t>(r), room_.slot(r), bytes);
    return;
  }
  std::memcpy(result_, room_.slot(reduces ? 0 : operation.call.root), bytes);
  for (int r = 1; reduces && r < size_; r++)
    nccl_simulator::combine(operation.type(), static_cast<NcclOp>(operation.call.op), result_, room_.slot(r), count);
}

void ncclComm::log(const Operation& operation, const char* event) const {
  if (settings_.log.empty()) return;
  std::FILE* const file = std::fopen(settings_.log.c_str(), "a");
  if (!file) return;
  std::fprintf(file,
               "{\"event\": \"%s\", \"operation\": %llu, \"kind\": \"%s\", \"count\": %llu, \"kernels\": %llu, "
               "\"microseconds\": %.0f}\n",
               event, static_cast<unsigned long long>(operation.number), name_of(operation.call.kind),
               static_cast<unsigned long long>(operation.call.count), kernels_run(), microseconds());
  std::fclose(file);
}

ncclComm::Result ncclComm::finalize() {
  return start([this]() -> Result {
    while (pending_ > 0 && !aborted_) pause();
    return room_.meet(aborted_) ? success : internal_error;
  });
}

void ncclComm::abort() { aborted_ = true; }

}  // namespace heed::comm
