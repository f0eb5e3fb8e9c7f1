#include "cuda/stream.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "cuda/card.h"
#include "cuda/check.h"
#include "cuda/fault_reports.h"
#include "cuda/reaper.h"
#include "cuda/staging.h"
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
  Staged(Staging& staging, size_t bytes, const char* op) : staging_(staging), block_(staging.take(bytes, op)) {}
  ~Staged() { staging_.give(block_); }
  Staged(const Staged&) = delete;
  Staged& operator=(const Staged&) = delete;
  void* data() const { return block_.data; }

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
  CUdeviceptr arrivals = 0;
  expect_success(d.mem_alloc(&arrivals, kArrivals * sizeof(unsigned)), op, "allocating memory");
  arrivals_ = reinterpret_cast<unsigned*>(arrivals);
  zero(op, arrivals_, kArrivals * sizeof(unsigned));
  faults_ = std::make_unique<FaultReports>(*this);
  reaper_ = std::make_unique<Reaper>(card_);
  staging_ = std::make_unique<Staging>(*reaper_);
  watcher_ = std::make_unique<Watcher>(card_);
}

Stream::~Stream() {
  try {
    stop();
    card_.make_current("device");
  } catch (const Error&) {
    // A lost device has nothing left to release.
  }
  watcher_.reset();
  staging_.reset();
  reaper_.reset();
  launched_.clear();
  faults_.reset();
  for (const FaultReport* reports : spare_reports_) driver()->mem_free(address(reports));
  allocator_.release_cached();
  if (arrivals_) driver()->mem_free(address(arrivals_));
  if (stream_) driver()->stream_destroy(stream_);
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

void Stream::launch(const char* op, KernelEntry& kernel, Grid grid, const void* params, size_t shared_bytes) {
  if (grid.x <= 0 || grid.y <= 0 || grid.z <= 0) return;
  if (grid.x > INT32_MAX || grid.y > 65535 || grid.z > 65535 || shared_bytes > card_.shared_limit)
    fail(Code::internal,
         "%s: expected a launch within the device's limits, got a grid of %lld x %lld x %lld and %zu bytes", op,
         static_cast<long long>(grid.x), static_cast<long long>(grid.y), static_cast<long long>(grid.z), shared_bytes);
  card_.make_current(op);
  const CUfunction function = card_.function(kernel, op, unpack_);
  void* parameters[] = {const_cast<void*>(params)};
  finish(driver()->launch_kernel(function, static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                                 static_cast<unsigned>(grid.z), kernel.threads, 1, 1,
                                 static_cast<unsigned>(shared_bytes), stream_, parameters, nullptr),
         op, kernel.name);
}

void Stream::zero(const char* op, void* destination, size_t bytes) {
  if (!bytes) return;
  card_.make_current(op);
  finish(driver()->memset_d8_async(address(destination), 0, bytes, stream_), op, "clearing memory");
}

void Stream::copy(const char* op, void* destination, const void* source, size_t bytes) {
  if (!bytes) return;
  card_.make_current(op);
  finish(driver()->memcpy_dtod_async(address(destination), address(source), bytes, stream_), op, "copying memory");
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

void Stream::upload(void* destination, const void* source, size_t bytes) {
  const char* op = "upload";
  expect_not_capturing(op);
  card_.make_current(op);
  for (size_t offset = 0; offset < bytes; offset += Uploads::kPiece) {
    const size_t size = std::min(bytes - offset, Uploads::kPiece);
    const auto share = std::make_shared<Uploads::Share>(uploads_, size);
    const auto staged = std::make_shared<Staged>(*staging_, size, op);
    std::memcpy(staged->data(), static_cast<const char*>(source) + offset, size);
    finish(driver()->memcpy_htod_async(address(destination) + offset, staged->data(), size, stream_), op,
           "copying to the device");
    watcher_->after(stream_, [share, staged](CUresult) {});
  }
}

void Stream::download(void* destination, const void* source, size_t bytes) {
  const char* op = "read";
  expect_not_capturing(op);
  card_.make_current(op);
  const auto staged = std::make_shared<Staged>(*staging_, bytes, op);
  finish(driver()->memcpy_dtoh_async(staged->data(), address(source), bytes, stream_), op, "copying from the device");
  watcher_->after(stream_, [staged, destination, bytes](CUresult result) {
    if (result == CUDA_SUCCESS) std::memcpy(destination, staged->data(), bytes);
  });
}

void Stream::send(std::shared_ptr<HostBuffer> to, const void* source) {
  const auto signal = std::make_shared<Signal>(to);
  const char* op = "send";
  expect_not_capturing(op);
  card_.make_current(op);
  const auto staged = std::make_shared<Staged>(*staging_, to->bytes, op);
  finish(driver()->memcpy_dtoh_async(staged->data(), address(source), to->bytes, stream_), op,
         "copying from the device");
  watcher_->after(stream_, [staged, signal](CUresult result) {
    if (result == CUDA_SUCCESS) std::memcpy((**signal).data.get(), staged->data(), (**signal).bytes);
  });
}

void Stream::receive(std::shared_ptr<HostBuffer> from, void* destination, Uploads::Share share) {
  const char* op = "receive";
  expect_not_capturing(op);
  struct Arrival {
    std::shared_ptr<HostBuffer> buffer;
    std::shared_ptr<Staged> staged;
  };
  card_.make_current(op);
  const auto staged = std::make_shared<Staged>(*staging_, from->bytes, op);
  auto* arrival = new Arrival{from, staged};
  const CUresult result = driver()->launch_host_func(
      stream_,
      [](void* data) {
        auto* arrival = static_cast<Arrival*>(data);
        arrival->buffer->wait();
        std::memcpy(arrival->staged->data(), arrival->buffer->data.get(), arrival->buffer->bytes);
        // The watcher holds the staging memory too: no driver call must come from in here.
        delete arrival;
      },
      arrival);
  if (result != CUDA_SUCCESS) delete arrival;
  finish(result, op, "waiting for another device");
  finish(driver()->memcpy_htod_async(address(destination), staged->data(), from->bytes, stream_), op,
         "copying to the device");
  watcher_->after(stream_, [staged, share = std::make_shared<Uploads::Share>(std::move(share))](CUresult) {});
}

void Stream::fetch_faults(const char* op) {
  fetch_faults(op, *faults_, -1);
  faults_->forget();
  for (const Launched& graph : launched_) fetch_faults(op, *graph.reports, graph.operation);
  launched_.clear();
}

void Stream::fetch_faults(const char* op, const FaultReports& reports, int64_t graph) {
  const std::vector<int64_t>& operations = reports.operations();
  if (operations.empty()) return;
  const size_t bytes = operations.size() * sizeof(FaultReport);
  const auto staged = std::make_shared<Staged>(*staging_, bytes, op);
  expect_success(driver()->memcpy_dtoh_async(staged->data(), address(reports.memory()), bytes, stream_), op,
                 "copying from the device");
  reports.clear(op);
  watcher_->after(stream_, [this, staged, operations, graph](CUresult result) {
    if (result != CUDA_SUCCESS) return;  // the fence says so
    const auto* fetched = static_cast<const FaultReport*>(staged->data());
    for (size_t i = 0; i < operations.size(); i++) {
      if (!fetched[i].found) continue;
      const bool recorded = graph >= 0;
      failures_.push_back({recorded ? graph : operations[i], recorded ? operations[i] : -1, error_of(fetched[i])});
    }
  });
}

void Stream::fence(Fence* fence) {
  const std::shared_ptr<Fence> owned(fence);
  try {
    card_.make_current("read");
    fetch_faults("read");
  } catch (const Error&) {
    // What is wrong with the device shows at the event.
  }
  watcher_->after(stream_, [this, owned](CUresult result) {
    Failures failures{std::exchange(failures_, {}), nullptr};
    if (result != CUDA_SUCCESS)
      failures.device = std::make_shared<const Error>(error_of(result, "device", "running what was enqueued"));
    owned->reached(std::move(failures));
  });
}

class Stream::EventTimer final : public Timer {
 public:
  explicit EventTimer(Stream& stream)
      : stream_(stream), start_(std::make_shared<Event>()), end_(std::make_shared<Event>()) {
    record(*start_);
  }
  void stop(double* milliseconds) override {
    record(*end_);
    stream_.watcher_->after(stream_.stream_, [start = start_, end = end_, milliseconds](CUresult result) {
      float elapsed = 0;
      if (result == CUDA_SUCCESS) driver()->event_elapsed_time(&elapsed, start->event, end->event);
      *milliseconds = elapsed;
    });
  }

 private:
  struct Event {
    CUevent event = nullptr;
    Event() { expect_success(driver()->event_create(&event, CU_EVENT_DEFAULT), kOp, "making an event"); }
    ~Event() { driver()->event_destroy(event); }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
  };
  void record(const Event& event) const {
    stream_.expect_not_capturing(kOp);
    stream_.card_.make_current(kOp);
    stream_.finish(driver()->event_record(event.event, stream_.stream_), kOp, "recording an event");
  }

  static constexpr const char* kOp = "timer";
  Stream& stream_;
  const std::shared_ptr<Event> start_, end_;
};

std::unique_ptr<Timer> Stream::start_timer() {
  card_.make_current("timer");
  return std::make_unique<EventTimer>(*this);
}

void Stream::wait_idle() {
  expect_not_capturing("device");
  card_.make_current("device");
  driver()->stream_synchronize(stream_);
  watcher_->drain();
}

class Stream::RecordedWork final : public Graph::Work {
 public:
  RecordedWork(Stream& stream, CUgraphExec exec, std::shared_ptr<FaultReports> faults)
      : stream_(stream), exec_(exec), faults_(std::move(faults)) {}
  ~RecordedWork() override { driver()->graph_exec_destroy(exec_); }
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
    stream_.finish(driver()->graph_launch(exec_, stream_.stream_), op, "launching");
  }

 private:
  Stream& stream_;
  const CUgraphExec exec_;
  const std::shared_ptr<FaultReports> faults_;
};

void Stream::start_recording() {
  const char* op = "capture";
  card_.make_current(op);
  auto recorded = std::make_shared<FaultReports>(*this);
  expect_success(driver()->stream_begin_capture(stream_, CU_STREAM_CAPTURE_MODE_RELAXED), op, "beginning");
  recorded_ = std::move(recorded);
}

std::unique_ptr<Graph::Work> Stream::finish_recording() {
  const char* op = "capture";
  card_.make_current(op);
  const Driver& d = *driver();
  const std::shared_ptr<FaultReports> faults = std::exchange(recorded_, nullptr);
  CUgraph graph = nullptr;
  CUgraphExec exec = nullptr;
  CUresult result = d.stream_end_capture(stream_, &graph);
  if (result == CUDA_SUCCESS) {
    result = d.graph_instantiate(&exec, graph, 0);
    d.graph_destroy(graph);
  }
  expect_success(result, op, "ending");
  return std::make_unique<RecordedWork>(*this, exec, faults);
}

void Stream::stop() {
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
