// The threads of streams, and the order that the implicit stream imposes.
#include "simulator/stream.h"

#include <map>
#include <thread>

#include "simulator/graph.h"

namespace heed::simulator {

void Mark::reach() {
  {
    const std::lock_guard lock(mutex_);
    reached_ = true;
    time_ = Clock::now();
  }
  changed_.notify_all();
}

void Mark::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return reached_; });
}

bool Mark::reached() {
  const std::lock_guard lock(mutex_);
  return reached_;
}

Clock::time_point Mark::time() {
  const std::lock_guard lock(mutex_);
  return time_;
}

Handles<CUstream_st>& streams() {
  static auto& handles = *new Handles<CUstream_st>;
  return handles;
}

Handles<CUstream_st>& closed_streams() {
  static auto& handles = *new Handles<CUstream_st>;
  return handles;
}

namespace {

std::mutex& implicit_mutex() {
  static auto& mutex = *new std::mutex;
  return mutex;
}
std::map<Device*, std::shared_ptr<CUstream_st>>& implicit_streams() {
  static auto& streams = *new std::map<Device*, std::shared_ptr<CUstream_st>>;
  return streams;
}

// Returns null as long as the device's implicit stream has never been used.
std::shared_ptr<CUstream_st> implicit_stream(Device& device, bool make) {
  const std::lock_guard lock(implicit_mutex());
  auto& stream = implicit_streams()[&device];
  if (stream && !streams().get(stream.get())) stream = nullptr;  // it was destroyed with its context
  if (!stream && make) {
    stream = CUstream_st::make(device, true, true);
    streams().add(stream);
  }
  return stream;
}

}  // namespace

std::shared_ptr<CUstream_st> find_stream(Device& device, CUstream handle) {
  if (reinterpret_cast<uintptr_t>(handle) <= 1) return implicit_stream(device, true);
  const auto stream = streams().get(handle);
  return stream && stream->device == &device ? stream : nullptr;
}

CUresult enter_stream(CUstream handle, std::shared_ptr<CUstream_st>* stream) {
  Device* device;
  if (const CUresult wrong = enter(&device)) return wrong;
  *stream = find_stream(*device, handle);
  return *stream ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

}  // namespace heed::simulator

namespace heed::cuda {

using namespace simulator;

std::shared_ptr<CUstream_st> CUstream_st::make(Device& device, bool blocking, bool implicit) {
  const std::shared_ptr<CUstream_st> stream(new CUstream_st(device, blocking, implicit));
  std::thread([stream] { stream->run(); }).detach();
  return stream;
}

void CUstream_st::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return !items_.empty() || closed_; });
    if (items_.empty()) break;
    Item item = std::move(items_.front());
    items_.pop_front();
    lock.unlock();
    std::this_thread::sleep_until(item.not_before);
    if (item.always || device->error() == CUDA_SUCCESS) item.work(*device);
    item.work = nullptr;  // the captured objects are destroyed before other threads learn that it has run
    lock.lock();
    completed_++;
    changed_.notify_all();
  }
  lock.unlock();
  closed_streams().remove(this);
}

void CUstream_st::push(Work work, bool always) {
  const auto not_before = Clock::now() + std::chrono::microseconds(settings().delay);
  {
    const std::lock_guard lock(mutex_);
    items_.push_back({std::move(work), always, not_before});
    enqueued_++;
  }
  changed_.notify_all();
}

// The implicit stream waits for the blocking streams, and they wait for it.
void CUstream_st::join_implicit() {
  if (!blocking) return;
  std::vector<std::shared_ptr<Mark>> marks;
  if (implicit) {
    for (const auto& stream : streams().all())
      if (stream->device == device && stream->blocking && stream.get() != this && !stream->idle())
        marks.push_back(stream->mark());
  } else if (const auto stream = implicit_stream(*device, false)) {
    if (!stream->idle()) marks.push_back(stream->mark());
  }
  for (const auto& mark : marks) push([mark](Device&) { mark->wait(); }, true);
}

void CUstream_st::submit(Work work) {
  if (const auto capture = this->capture()) {
    capture->add(this, std::move(work));
    return;
  }
  wait_for_room();
  join_implicit();
  push(std::move(work), false);
}

std::shared_ptr<Mark> CUstream_st::mark() {
  const auto mark = std::make_shared<Mark>();
  push([mark](Device&) { mark->reach(); }, true);
  return mark;
}

std::shared_ptr<Mark> CUstream_st::record() {
  join_implicit();
  return mark();
}

void CUstream_st::finish() {
  std::unique_lock lock(mutex_);
  const uint64_t target = enqueued_;
  changed_.wait(lock, [&] { return completed_ >= target; });
}

void CUstream_st::wait_for_room() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return enqueued_ - completed_ < settings().queue; });
}

bool CUstream_st::idle() {
  const std::lock_guard lock(mutex_);
  return completed_ == enqueued_;
}

void CUstream_st::close() {
  const auto self = streams().remove(this);
  if (!self) return;
  closed_streams().add(self);
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
}

std::shared_ptr<Capture> CUstream_st::capture() {
  const std::lock_guard lock(mutex_);
  return capture_;
}

void CUstream_st::set_capture(std::shared_ptr<Capture> capture) {
  const std::lock_guard lock(mutex_);
  capture_ = std::move(capture);
}

}  // namespace heed::cuda
