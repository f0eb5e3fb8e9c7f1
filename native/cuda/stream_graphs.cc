// Records the work that is enqueued on a stream as a graph, and launches it.
#include <utility>

#include "cuda/card.h"
#include "cuda/check.h"
#include "cuda/fault_reports.h"
#include "cuda/stream.h"

namespace heed::cuda {

class Stream::RecordedWork final : public Graph::Work {
 public:
  RecordedWork(Stream& stream, CUgraphExec exec, std::shared_ptr<FaultReports> faults)
      : stream_(stream), exec_(std::make_shared<Exec>(exec)), faults_(std::move(faults)) {}
  void launch(int64_t operation) override {
    const char* op = "graph";
    stream_.card_.make_current(op);
    if (!faults_->operations().empty()) {
      // The graph's reports serve only one launch, so those of the launch before are fetched first.
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
  if (!recording_stream_) recording_stream_ = make_stream(op);
  auto recorded = std::make_shared<FaultReports>(*this);
  expect_success(driver()->stream_begin_capture(recording_stream_, CU_STREAM_CAPTURE_MODE_RELAXED), op, "beginning");
  recorded_ = std::move(recorded);
}

std::unique_ptr<Graph::Work> Stream::finish_recording() {
  const char* op = "capture";
  const std::shared_ptr<FaultReports> faults = std::exchange(recorded_, nullptr);
  card_.make_current(op);
  const Driver& d = *driver();
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

}  // namespace heed::cuda
