#include "cuda/stream.h"

#include <cstdlib>
#include <cstring>
#include <utility>

#include "cuda/card.h"
#include "cuda/check.h"
#include "cuda/detour.h"
#include "cuda/event.h"
#include "cuda/fault_reports.h"
#include "cuda/reaper.h"
#include "cuda/staging.h"
#include "cuda/submitter.h"
#include "cuda/watcher.h"

namespace heed::cuda {
namespace {

bool blocking_launches() {
  const char* value = std::getenv("HEED_CUDA_BLOCKING");
  return value && std::strcmp(value, "1") == 0;
}

}  // namespace

Stream::Stream(Card& card, Unpack unpack, bool background, Unopened)
    : Device(Backend::cuda),
      card_(card),
      unpack_(std::move(unpack)),
      pooled_(card_.pools && Allocator::caches()),
      allocator_(*this),
      background_(background),
      blocking_(blocking_launches()) {}

Stream::Stream(Card& card, Unpack unpack, bool background) : Stream(card, std::move(unpack), background, Unopened()) {
  const Driver& d = *driver();
  const char* op = "device";
  card_.make_current(op);
  stream_ = make_stream(op);
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

// Makes a stream of the least or of the greatest priority. A driver without priorities treats all streams alike.
CUstream Stream::make_stream(const char* op) const {
  const Driver& d = *driver();
  CUstream stream = nullptr;
  if (missing(Feature::priorities)) {
    expect_success(d.stream_create(&stream, CU_STREAM_NON_BLOCKING), op, "making a stream");
    return stream;
  }
  int least = 0, greatest = 0;
  expect_success(d.context_get_stream_priority_range(&least, &greatest), op, "asking for the priorities of streams");
  const int priority = background_ ? least : greatest;
  expect_success(d.stream_create_with_priority(&stream, CU_STREAM_NON_BLOCKING, priority), op, "making a stream");
  return stream;
}

void Stream::set_background(bool background) {
  if (background != background_)
    fail(Code::device, "setBackground: expected to be called before this thread uses cuda:%d, got a later call",
         card_.index);
}

Stream::~Stream() {
  stop();
  card_.try_make_current();
  allocator_.release_cached();
  if (stream_) driver()->stream_synchronize(stream_);
  side_.reset();
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

void Stream::enqueued() {
  const uint64_t calls = backlog_.add();
  if (calls % Backlog::kStep == 0) watcher_->after(stream_, [this, calls](CUresult) { backlog_.done(calls); });
}

bool Stream::direct() const { return capturing() || (submitter_->idle() && backlog_.has_room()); }

void Stream::later(std::function<void()> body, Failed failed) {
  submitter_->later([this, body = std::move(body), failed = std::move(failed)] {
    const auto fails = [&](const Error& error) {
      watcher_->after(stream_, [failed, error](CUresult) { failed(error); });
    };
    try {
      backlog_.wait_for_room();
      body();
    } catch (const Error& error) {
      // The environment has ended: the calls that wait must not run on bytes that have not arrived.
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
  if (direct()) {
    finish(call(params), op, kernel.name);
    if (!capturing()) enqueued();
    return;
  }
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

void Stream::give_back(void* block, size_t bytes, uint64_t last_use) {
  submitter_->after(last_use, [this, block, bytes] {
    if (!pooled_) return reaper_->free(address(block));
    driver()->mem_free_async(address(block), stream_);
    allocator_.returned(bytes);
  });
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
    if (result != CUDA_SUCCESS) return;  // the fence reports it
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
    // If something is wrong with the device, the event reports it.
  }
  after([this, owned](CUresult result) {
    Failures failures{std::exchange(failures_, {}), std::exchange(unread_, nullptr)};
    if (result != CUDA_SUCCESS)
      failures.device = std::make_shared<const Error>(error_of(result, "device", "running the enqueued work"));
    owned->reached(std::move(failures));
  });
}

void Stream::release_cached(std::unique_ptr<Fence> told) {
  card_.try_make_current();
  allocator_.release_cached();
  const std::shared_ptr<Fence> owned(std::move(told));
  if (pooled_) return after([owned](CUresult) { owned->reached({}); });
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

void* Stream::native_queue() {
  expect_not_capturing("device");
  submitter_->drain();
  return stream_;
}

void Stream::stop() {
  card_.try_make_current();
  if (submitter_) submitter_->stop();
  if (reaper_) reaper_->stop();
  if (watcher_) watcher_->stop(stream_);
  if (side_) side_->stop();
}

Stream::Workspace::Workspace(Stream& stream, const char* op, size_t bytes)
    : stream_(stream), block_(bytes ? stream.allocator_.allocate(bytes, op) : Block{}) {}

Stream::Workspace::~Workspace() {
  if (block_.data) stream_.allocator_.free(block_);
}

}  // namespace heed::cuda
