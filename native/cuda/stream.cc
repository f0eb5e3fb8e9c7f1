#include "cuda/stream.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "cuda/card.h"
#include "cuda/check.h"
#include "cuda/fault_reports.h"
#include "cuda/peers.h"
#include "cuda/reaper.h"
#include "cuda/staging.h"
#include "cuda/submitter.h"
#include "cuda/watcher.h"

namespace heed::cuda {
namespace {

CUdeviceptr address(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

bool blocking_launches() {
  const char* value = std::getenv("HEED_CUDA_BLOCKING");
  return value && std::strcmp(value, "1") == 0;
}

// The same words as the CPU's.
Error error_of(const FaultReport& report) {
  const char* op = reinterpret_cast<const char*>(static_cast<uintptr_t>(report.op));
  constexpr int kPositionBits = 64 - Finding::kValueBits;
  const uint64_t found = ~report.found, length = static_cast<uint64_t>(report.length);
  const uint64_t at = found >> Finding::kValueBits;
  const auto value = static_cast<long long>(static_cast<int64_t>(found << kPositionBits) >> kPositionBits);
  const auto limit = static_cast<long long>(report.limit);
  const auto position = static_cast<long long>(length ? at % length : at);
  const auto row = static_cast<long long>(length ? at / length : 0);
  char message[256] = "";
  const auto write = [&](const char* format, auto... values) {
    std::snprintf(message, sizeof message, format, op, values...);
  };
  switch (report.kind) {
    case FaultKind::none:
      break;
    case FaultKind::id:
      write("%s: expected ids in [0, %lld), got %lld at position %lld", limit, value, position);
      break;
    case FaultKind::target:
      write("%s: expected targets in [0, %lld), got %lld at position %lld", limit, value, position);
      break;
    case FaultKind::start:
      write("%s: expected starts from 0 to %lld, got %lld", limit, value);
      break;
    case FaultKind::history:
      write("%s: expected history ids below %lld, got %lld at position %lld of row %lld", limit, value, position, row);
      break;
    case FaultKind::key_length:
      write("%s: expected key_lengths from 0 to %lld, got %lld", limit, value);
      break;
    case FaultKind::position:
      write("%s: expected positions in [0, %lld), got %lld at token %lld of sequence %lld", limit, value, position,
            row);
      break;
  }
  return Error(Code::range, message);
}

}  // namespace

// Pinned memory that goes back when the last action that uses it has run or was dropped.
class Stream::Staged {
 public:
  Staged(Staging& staging, Staging::Block block) : staging_(staging), block_(block) {}
  ~Staged() { staging_.give(block_); }
  Staged(const Staged&) = delete;
  Staged& operator=(const Staged&) = delete;
  void* data() const { return block_.data; }
  size_t bytes() const { return block_.bytes; }

 private:
  Staging& staging_;
  const Staging::Block block_;
};

Stream::Stream(Card& card, Unpack unpack, Unopened)
    : Device(Backend::cuda),
      card_(card),
      unpack_(std::move(unpack)),
      allocator_(*this),
      blocking_(blocking_launches()) {}

Stream::Stream(Card& card, Unpack unpack) : Stream(card, std::move(unpack), Unopened()) {
  const Driver& d = *driver();
  const char* op = "device";
  card_.make_current(op);
  expect_success(d.stream_create(&stream_, CU_STREAM_NON_BLOCKING), op, "making a stream");
  reaper_ = std::make_unique<Reaper>(card_);
  staging_ = std::make_unique<Staging>();
  watcher_ = std::make_unique<Watcher>(card_);
  submitter_ = std::make_unique<Submitter>(card_);
  CUdeviceptr arrivals = 0;
  expect_success(d.mem_alloc(&arrivals, kArrivals * sizeof(unsigned)), op, "allocating memory");
  arrivals_ = reinterpret_cast<unsigned*>(arrivals);
  zero(op, arrivals_, kArrivals * sizeof(unsigned));
  faults_ = std::make_unique<FaultReports>(*this);
}

Stream::~Stream() {
  try {
    stop();
    card_.make_current("device");
  } catch (const Error&) {
    // A lost device has nothing left to release.
  }
  allocator_.release_cached();
  submitter_.reset();
  watcher_.reset();
  staging_.reset();
  reaper_.reset();
  launched_.clear();
  faults_.reset();
  for (const FaultReport* reports : spare_reports_) driver()->mem_free(address(reports));
  if (arrivals_) driver()->mem_free(address(arrivals_));
  for (const CUstream stream : {stream_, recording_stream_})
    if (stream) driver()->stream_destroy(stream);
}

unsigned* Stream::arrivals(const char* op, int64_t count) {
  if (count > kArrivals)
    fail(Code::internal, "%s: expected at most %lld counters, got %lld", op, static_cast<long long>(kArrivals),
         static_cast<long long>(count));
  return arrivals_;
}

FaultReport* Stream::take_reports() {
  if (!spare_reports_.empty()) {
    FaultReport* const reports = spare_reports_.back();
    spare_reports_.pop_back();
    return reports;
  }
  CUdeviceptr memory = 0;
  expect_success(driver()->mem_alloc(&memory, FaultReports::kReports * sizeof(FaultReport)), "device",
                 "allocating memory");
  return reinterpret_cast<FaultReport*>(memory);
}

int Stream::multiprocessors() const { return card_.multiprocessors; }
size_t Stream::shared_limit() const { return card_.shared_limit; }

void Stream::finish(CUresult result, const char* op, const char* doing) {
  if (result == CUDA_SUCCESS && blocking_ && !capturing()) result = driver()->stream_synchronize(stream_);
  expect_success(result, op, doing);
}

bool Stream::direct() const { return capturing() || submitter_->idle(); }

void Stream::later(std::function<void()> body, Failed failed) {
  submitter_->later([this, body = std::move(body), failed = std::move(failed)] {
    const auto fails = [&](const Error& error) {
      watcher_->after(stream_, [failed, error](CUresult) { failed(error); });
    };
    try {
      body();
    } catch (const Error& error) {
      // The environment has ended: what waits behind must not run on bytes that have not come.
      if (error.code() == Code::internal)
        submitter_->abandon();
      else
        fails(error);
    } catch (const std::bad_alloc&) {
      fails(Error(Code::oom, "out of memory"));
    }
  });
  if (blocking_) submitter_->drain();
}

Stream::Failed Stream::fail_operation() {
  return [this, operation = operation_](const Error& error) { failures_.push_back({operation, -1, error}); };
}

Stream::Failed Stream::fail_reads() {
  return [this](const Error& error) { unread_ = std::make_shared<const Error>(error); };
}

template <class Call>
void Stream::submit(const char* op, const char* doing, Call call) {
  if (direct()) return finish(call(), op, doing);
  later([this, op, doing, call = std::move(call)] { finish(call(), op, doing); }, fail_operation());
}

void Stream::after(std::function<void(CUresult)> action) {
  if (submitter_->idle())
    watcher_->after(stream_, std::move(action));
  else
    submitter_->later([this, action = std::move(action)] { watcher_->after(stream_, action); });
}

void Stream::launch(const char* op, KernelEntry& kernel, Grid grid, const void* params, size_t params_bytes,
                    size_t shared_bytes) {
  if (grid.x <= 0 || grid.y <= 0 || grid.z <= 0) return;
  if (grid.x > INT32_MAX || grid.y > 65535 || grid.z > 65535 || shared_bytes > card_.shared_limit)
    fail(Code::internal,
         "%s: expected a launch within the device's limits, got a grid of %lld x %lld x %lld and %zu bytes", op,
         static_cast<long long>(grid.x), static_cast<long long>(grid.y), static_cast<long long>(grid.z), shared_bytes);
  card_.make_current(op);
  const CUfunction function = card_.function(kernel, op, unpack_);
  const auto call = [=, threads = kernel.threads, stream = target()](const void* params) {
    void* parameters[] = {const_cast<void*>(params)};
    return driver()->launch_kernel(function, static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                                   static_cast<unsigned>(grid.z), threads, 1, 1, static_cast<unsigned>(shared_bytes),
                                   stream, parameters, nullptr);
  };
  if (direct()) return finish(call(params), op, kernel.name);
  const auto* first = static_cast<const char*>(params);
  submit(op, kernel.name, [call, kept = std::vector<char>(first, first + params_bytes)] { return call(kept.data()); });
}

void Stream::zero(const char* op, void* destination, size_t bytes) {
  if (!bytes) return;
  card_.make_current(op);
  submit(op, "clearing memory",
         [=, stream = target()] { return driver()->memset_d8_async(address(destination), 0, bytes, stream); });
}

void Stream::copy(const char* op, void* destination, const void* source, size_t bytes) {
  if (!bytes) return;
  card_.make_current(op);
  submit(op, "copying memory", [=, stream = target()] {
    return driver()->memcpy_dtod_async(address(destination), address(source), bytes, stream);
  });
}

FaultSink Stream::fault(const char* op) {
  FaultReport* report;
  if (recorded_) {
    report = recorded_->of(operation_, true);
  } else {
    report = faults_->of(operation_, false);
    if (!report) {
      fetch_faults(op);
      report = faults_->of(operation_, false);
    }
  }
  return {report, static_cast<uint64_t>(reinterpret_cast<uintptr_t>(op))};
}

size_t Stream::put(const char* op, char* destination, const char* source, size_t bytes,
                   const std::shared_ptr<Staged>& staged, const std::shared_ptr<void>& kept) {
  const size_t size = std::min(bytes, staged->bytes());
  std::memcpy(staged->data(), source, size);
  finish(driver()->memcpy_htod_async(address(destination), staged->data(), size, stream_), op, "copying to the device");
  watcher_->after(stream_, [staged, kept](CUresult) {});
  return size;
}

size_t Stream::get(const char* op, const char* source, size_t offset, size_t bytes,
                   const std::shared_ptr<Staged>& staged, const Taken& taken) {
  const size_t size = std::min(bytes - offset, staged->bytes());
  finish(driver()->memcpy_dtoh_async(staged->data(), address(source + offset), size, stream_), op,
         "copying from the device");
  watcher_->after(stream_, [=](CUresult result) { taken(result, offset, staged->data(), size); });
  return size;
}

void Stream::copy_in(const char* op, char* destination, const char* source, size_t bytes,
                     const std::shared_ptr<void>& kept) {
  for (size_t offset = 0; offset < bytes && !submitter_->stopping();) {
    const auto staged = std::make_shared<Staged>(*staging_, staging_->take(bytes - offset, op));
    offset += put(op, destination + offset, source + offset, bytes - offset, staged, kept);
  }
}

void Stream::copy_out(const char* op, const char* source, size_t bytes, const Taken& taken, const Failed& failed) {
  size_t begin = 0;
  while (begin < bytes && direct()) {
    const Staging::Block block = staging_->try_take(bytes - begin);
    if (!block.data) break;
    begin += get(op, source, begin, bytes, std::make_shared<Staged>(*staging_, block), taken);
  }
  if (begin < bytes) later([=] { copy_out_from(op, source, begin, bytes, taken); }, failed);
}

void Stream::copy_out_from(const char* op, const char* source, size_t begin, size_t bytes, const Taken& taken) {
  for (size_t offset = begin; offset < bytes && !submitter_->stopping();) {
    const auto staged = std::make_shared<Staged>(*staging_, staging_->take(bytes - offset, op));
    offset += get(op, source, offset, bytes, staged, taken);
  }
}

void Stream::upload(void* destination, const void* source, size_t bytes) {
  const char* op = "upload";
  expect_not_capturing(op);
  card_.make_current(op);
  struct Waiting {
    Uploads::Share share;
    std::unique_ptr<char[]> data;  // ordinary memory: who waits for its turn has no pinned one
  };
  for (size_t offset = 0; offset < bytes; offset += Uploads::kPiece) {
    const size_t size = std::min(bytes - offset, Uploads::kPiece);
    const auto waiting = std::make_shared<Waiting>(Waiting{Uploads::Share(uploads_, size), nullptr});
    char* const to = static_cast<char*>(destination) + offset;
    const char* const from = static_cast<const char*>(source) + offset;
    const Staging::Block block = direct() ? staging_->try_take(size) : Staging::Block{};
    if (block.data) {
      put(op, to, from, size, std::make_shared<Staged>(*staging_, block), waiting);
    } else {
      waiting->data.reset(new char[size]);
      std::memcpy(waiting->data.get(), from, size);
      later([=] { copy_in(op, to, waiting->data.get(), size, waiting); }, fail_operation());
    }
  }
}

void Stream::download(void* destination, const void* source, size_t bytes) {
  const char* op = "read";
  expect_not_capturing(op);
  card_.make_current(op);
  copy_out(
      op, static_cast<const char*>(source), bytes,
      [destination](CUresult result, size_t offset, const void* data, size_t size) {
        if (result == CUDA_SUCCESS) std::memcpy(static_cast<char*>(destination) + offset, data, size);
      },
      fail_reads());
}

void Stream::send(std::shared_ptr<HostBuffer> to, const void* source) {
  const char* op = "send";
  const auto signal = std::make_shared<Signal>(to);
  expect_not_capturing(op);
  card_.make_current(op);
  const auto* from = static_cast<const char*>(source);
  const Taken taken = [signal, op](CUresult result, size_t offset, const void* data, size_t size) {
    if (result == CUDA_SUCCESS)
      std::memcpy((**signal).data() + offset, data, size);
    else
      (**signal).fail(error_of(result, op, "copying from the device"));
  };
  const Failed failed = [signal](const Error& error) { (**signal).fail(error); };
  if (direct() && sending_.has_room(to->bytes)) {
    to->open(sending_);
    return copy_out(op, from, to->bytes, taken, failed);
  }
  const auto body = [=] {
    (**signal).open(sending_);
    copy_out_from(op, from, 0, (**signal).bytes, taken);
  };
  later(body, failed);
}

void Stream::receive(std::shared_ptr<HostBuffer> from, void* destination, Uploads::Share share) {
  const char* op = "receive";
  expect_not_capturing(op);
  card_.make_current(op);
  const auto kept = std::make_shared<Uploads::Share>(std::move(share));
  const auto body = [=] {
    from->wait();
    if (from->data()) copy_in(op, static_cast<char*>(destination), from->data(), from->bytes, kept);
  };
  later(body, fail_operation());
}

class Stream::Event {
 public:
  Event(const char* op, unsigned flags) {
    expect_success(driver()->event_create(&event, flags), op, "making an event");
  }
  ~Event() { driver()->event_destroy(event); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  CUevent event = nullptr;
};

bool Stream::copy_from(Device& from, void* destination, const void* source, size_t bytes, const Signals& signals) {
  if (from.backend != Backend::cuda) return false;
  auto& sender = static_cast<Stream&>(from);
  if (!can_read(card_, sender.card_)) return false;
  const char* op = "copy";
  const CUcontext there = sender.card_.make_current(op);
  const auto ready = std::make_shared<Event>(op, CU_EVENT_DISABLE_TIMING);
  const CUcontext here = card_.make_current(op);
  const auto copied = std::make_shared<Event>(op, CU_EVENT_DISABLE_TIMING);
  const Driver& d = *driver();
  const CUstream stream = stream_, source_stream = sender.stream_;
  const auto& [recorded, enqueued, told] = signals;
  const auto record = [=, &d] {
    expect_success(d.event_record(ready->event, source_stream), op, "recording an event");
  };
  const auto copy = [=, &d] {
    expect_success(d.stream_wait_event(stream, ready->event, 0), op, "waiting for another device");
    expect_success(d.memcpy_peer_async(address(destination), here, address(source), there, bytes, stream), op,
                   "copying between devices");
    expect_success(d.event_record(copied->event, stream), op, "recording an event");
  };
  // What the sender writes to this memory next must not overtake the copy.
  const auto wait = [=, &d] {
    expect_success(d.stream_wait_event(source_stream, copied->event, 0), op, "waiting for another device");
  };
  sender.in_turn(op, record, nullptr, std::make_shared<Signal>(recorded));
  in_turn(op, copy, recorded, std::make_shared<Signal>(enqueued));
  sender.in_turn(op, wait, enqueued, nullptr);
  // Nobody may read the copy before the log knows what had failed on the sender.
  sender.after([signal = std::make_shared<Signal>(told)](CUresult) {});
  after([told = told](CUresult) {
    try {
      told->wait();
    } catch (const Error&) {
      // The environment has ended.
    }
  });
  return true;
}

void Stream::in_turn(const char* op, std::function<void()> body, const std::shared_ptr<HostBuffer>& before,
                     std::shared_ptr<Signal> then) {
  card_.make_current(op);
  if (direct() && (!before || before->ready())) return body();
  const auto waiting = [body = std::move(body), before, then = std::move(then)] {
    if (before) before->wait();
    body();
  };
  later(waiting, fail_operation());
}

void Stream::give_back(void* block) {
  // It goes to the reaper in its turn, or when what waits is dropped.
  const std::shared_ptr<void> given(block, [this](void* block) { reaper_->free(address(block)); });
  if (!submitter_->idle()) submitter_->later([given] {});
}

void Stream::fetch_faults(const char* op) {
  fetch_faults(op, *faults_, -1);
  faults_->forget();
  for (const Launched& graph : launched_) fetch_faults(op, *graph.reports, graph.operation);
  launched_.clear();
}

void Stream::fetch_faults(const char* op, const FaultReports& reports, int64_t graph) {
  if (reports.operations().empty()) return;
  struct Fetched {
    std::vector<int64_t> operations;
    std::vector<FaultReport> reports;
  };
  const size_t count = reports.operations().size(), bytes = count * sizeof(FaultReport);
  const auto fetched = std::make_shared<Fetched>(Fetched{reports.operations(), std::vector<FaultReport>(count)});
  const auto take = [this, fetched, bytes, graph](CUresult result, size_t offset, const void* data, size_t size) {
    if (result != CUDA_SUCCESS) return;  // the fence says so
    std::memcpy(reinterpret_cast<char*>(fetched->reports.data()) + offset, data, size);
    if (offset + size < bytes) return;
    for (size_t i = 0; i < fetched->operations.size(); i++) {
      if (!fetched->reports[i].found) continue;
      const int64_t operation = fetched->operations[i];
      const bool recorded = graph >= 0;
      failures_.push_back({recorded ? graph : operation, recorded ? operation : -1, error_of(fetched->reports[i])});
    }
  };
  copy_out(op, reinterpret_cast<const char*>(reports.memory()), bytes, take, fail_reads());
  reports.clear(op);
}

void Stream::fence(Fence* fence) {
  const std::shared_ptr<Fence> owned(fence);
  try {
    card_.make_current("read");
    fetch_faults("read");
  } catch (const Error&) {
    // What is wrong with the device shows at the event.
  }
  after([this, owned](CUresult result) {
    Failures failures{std::exchange(failures_, {}), std::exchange(unread_, nullptr)};
    if (result != CUDA_SUCCESS)
      failures.device = std::make_shared<const Error>(error_of(result, "device", "running what was enqueued"));
    owned->reached(std::move(failures));
  });
}

void Stream::release_cached(std::unique_ptr<Fence> told) {
  allocator_.release_cached();
  const std::shared_ptr<Fence> owned(std::move(told));
  const auto tell = [this, owned] { reaper_->then([owned] { owned->reached({}); }); };
  if (submitter_->idle())
    tell();
  else
    submitter_->later(tell);
}

class Stream::EventTimer final : public Timer {
 public:
  explicit EventTimer(Stream& stream)
      : stream_(stream),
        start_(std::make_shared<Event>(kOp, CU_EVENT_DEFAULT)),
        end_(std::make_shared<Event>(kOp, CU_EVENT_DEFAULT)) {
    record(start_);
  }
  void stop(double* milliseconds) override {
    record(end_);
    stream_.after([start = start_, end = end_, milliseconds](CUresult result) {
      float elapsed = 0;
      if (result == CUDA_SUCCESS) driver()->event_elapsed_time(&elapsed, start->event, end->event);
      *milliseconds = elapsed;
    });
  }

 private:
  void record(const std::shared_ptr<Event>& event) const {
    stream_.expect_not_capturing(kOp);
    stream_.card_.make_current(kOp);
    stream_.submit(kOp, "recording an event",
                   [event, stream = stream_.stream_] { return driver()->event_record(event->event, stream); });
  }

  static constexpr const char* kOp = "timer";
  Stream& stream_;
  const std::shared_ptr<Event> start_, end_;
};

std::unique_ptr<Timer> Stream::start_timer() {
  expect_feature(Feature::timing, "elapsed");
  card_.make_current("timer");
  return std::make_unique<EventTimer>(*this);
}

void Stream::wait_idle() {
  expect_not_capturing("device");
  submitter_->drain();
  card_.make_current("device");
  driver()->stream_synchronize(stream_);
  watcher_->drain();
}

class Stream::RecordedWork final : public Graph::Work {
 public:
  RecordedWork(Stream& stream, CUgraphExec exec, std::shared_ptr<FaultReports> faults)
      : stream_(stream), exec_(std::make_shared<Exec>(exec)), faults_(std::move(faults)) {}
  void launch(int64_t operation) override {
    const char* op = "graph";
    stream_.card_.make_current(op);
    if (!faults_->operations().empty()) {
      // Its reports are of one launch at a time.
      for (const Launched& launched : stream_.launched_)
        if (launched.reports == faults_) {
          stream_.fetch_faults(op);
          break;
        }
      stream_.launched_.push_back({faults_, operation});
    }
    stream_.operation_ = operation;
    stream_.submit(op, "launching",
                   [exec = exec_, stream = stream_.stream_] { return driver()->graph_launch(exec->exec, stream); });
  }

 private:
  // Shared with launches that wait for their turn.
  struct Exec {
    const CUgraphExec exec;
    explicit Exec(CUgraphExec exec) : exec(exec) {}
    ~Exec() { driver()->graph_exec_destroy(exec); }
    Exec(const Exec&) = delete;
    Exec& operator=(const Exec&) = delete;
  };
  Stream& stream_;
  const std::shared_ptr<Exec> exec_;
  const std::shared_ptr<FaultReports> faults_;
};

CUstream Stream::target() const { return capturing() ? recording_stream_ : stream_; }

void Stream::start_recording() {
  const char* op = "capture";
  expect_feature(Feature::graphs, op);
  card_.make_current(op);
  if (!recording_stream_)
    expect_success(driver()->stream_create(&recording_stream_, CU_STREAM_NON_BLOCKING), op, "making a stream");
  auto recorded = std::make_shared<FaultReports>(*this);
  expect_success(driver()->stream_begin_capture(recording_stream_, CU_STREAM_CAPTURE_MODE_RELAXED), op, "beginning");
  recorded_ = std::move(recorded);
}

std::unique_ptr<Graph::Work> Stream::finish_recording() {
  const char* op = "capture";
  card_.make_current(op);
  const Driver& d = *driver();
  const std::shared_ptr<FaultReports> faults = std::exchange(recorded_, nullptr);
  CUgraph graph = nullptr;
  CUgraphExec exec = nullptr;
  CUresult result = d.stream_end_capture(recording_stream_, &graph);
  if (result == CUDA_SUCCESS) {
    result = d.graph_instantiate(&exec, graph, 0);
    d.graph_destroy(graph);
  }
  expect_success(result, op, "ending");
  return std::make_unique<RecordedWork>(*this, exec, faults);
}

void Stream::stop() {
  if (submitter_) submitter_->stop();
  if (reaper_) reaper_->stop();
  if (!watcher_) return;
  try {
    card_.make_current("device");
  } catch (const Error&) {
    // The watcher's thread must end all the same.
  }
  watcher_->stop(stream_);
}

Stream::Workspace::Workspace(Stream& stream, const char* op, size_t bytes)
    : stream_(stream), block_(bytes ? stream.allocator_.allocate(bytes, op) : Block{}) {}

Stream::Workspace::~Workspace() {
  if (block_.data) stream_.allocator_.free(block_);
}

}  // namespace heed::cuda
