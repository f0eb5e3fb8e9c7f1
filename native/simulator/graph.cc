// Capture and graphs: the driver's functions for them.
#include "simulator/graph.h"

namespace heed::simulator {

void Capture::add(CUstream stream, Work work) {
  const std::lock_guard lock(mutex_);
  nodes_.push_back(std::move(work));
  members_[stream].nodes++;
}

void Capture::fork(CUstream stream) {
  const std::lock_guard lock(mutex_);
  members_[stream];
}

void Capture::join(CUstream stream, size_t nodes) {
  const std::lock_guard lock(mutex_);
  Member& member = members_[stream];
  member.waited = true;
  if (nodes > member.joined) member.joined = nodes;
}

size_t Capture::nodes_of(CUstream stream) {
  const std::lock_guard lock(mutex_);
  return members_[stream].nodes;
}

bool Capture::unjoined() {
  const std::lock_guard lock(mutex_);
  for (const auto& [stream, member] : members_)
    if (stream != origin && (!member.waited || member.joined < member.nodes)) return true;
  return false;
}

void Capture::invalidate() {
  const std::lock_guard lock(mutex_);
  invalid_ = true;
}

bool Capture::is_invalid() {
  const std::lock_guard lock(mutex_);
  return invalid_;
}

std::vector<CUstream> Capture::members() {
  const std::lock_guard lock(mutex_);
  std::vector<CUstream> list;
  for (const auto& [stream, member] : members_) list.push_back(stream);
  return list;
}

Nodes Capture::take() {
  const std::lock_guard lock(mutex_);
  return std::move(nodes_);
}

namespace {

Handles<CUgraph_st>& graphs() {
  static auto& handles = *new Handles<CUgraph_st>;
  return handles;
}
Handles<CUgraphExec_st>& execs() {
  static auto& handles = *new Handles<CUgraphExec_st>;
  return handles;
}

constexpr CUstreamCaptureMode capture_relaxed = 2;

}  // namespace

extern "C" {

CUresult cuStreamBeginCapture_v2(CUstream handle, CUstreamCaptureMode mode) {
  return guard([&]() -> CUresult {
    std::shared_ptr<CUstream_st> stream;
    if (const CUresult wrong = enter_stream(handle, &stream)) return wrong;
    if (mode < 0 || mode > capture_relaxed) return CUDA_ERROR_INVALID_VALUE;
    if (stream->implicit) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (stream->capturing()) return CUDA_ERROR_ILLEGAL_STATE;
    const auto capture = std::make_shared<Capture>();
    capture->origin = stream.get();
    capture->mode = mode;
    capture->thread = std::this_thread::get_id();
    capture->fork(stream.get());
    stream->set_capture(capture);
    return CUDA_SUCCESS;
  });
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph) {
  return guard([&]() -> CUresult {
    if (!graph) return CUDA_ERROR_INVALID_VALUE;
    *graph = nullptr;
    std::shared_ptr<CUstream_st> stream;
    if (const CUresult wrong = enter_stream(handle, &stream)) return wrong;
    const auto capture = stream->capture();
    if (!capture) return CUDA_ERROR_ILLEGAL_STATE;
    if (capture->origin != stream.get()) return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
    if (capture->mode != capture_relaxed && capture->thread != std::this_thread::get_id())
      return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    const bool unjoined = capture->unjoined();
    for (const CUstream member : capture->members())
      if (const auto other = streams().get(member)) other->set_capture(nullptr);
    if (capture->is_invalid()) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (unjoined) return CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    *graph = graphs().add(std::shared_ptr<CUgraph_st>(new CUgraph_st{capture->take()}));
    return CUDA_SUCCESS;
  });
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph handle, unsigned long long) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    const auto graph = graphs().get(handle);
    if (!exec || !graph) return CUDA_ERROR_INVALID_VALUE;
    const auto nodes = std::make_shared<const Nodes>(graph->nodes);
    *exec = execs().add(std::shared_ptr<CUgraphExec_st>(new CUgraphExec_st{device, nodes}));
    return CUDA_SUCCESS;
  });
}

CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream_handle) {
  return guard([&]() -> CUresult {
    std::shared_ptr<CUstream_st> stream;
    if (const CUresult wrong = enter_stream(stream_handle, &stream)) return wrong;
    const auto exec = execs().get(handle);
    if (!exec || exec->device != stream->device) return CUDA_ERROR_INVALID_VALUE;
    const auto nodes = exec->nodes;  // the nodes may outlive exec
    stream->submit([nodes](Device& device) {
      for (const Work& node : *nodes)
        if (device.error() == CUDA_SUCCESS) node(device);
    });
    return CUDA_SUCCESS;
  });
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
  return guard([&]() -> CUresult {
    if (const CUresult wrong = enter_without_context()) return wrong;
    return execs().remove(exec) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

CUresult cuGraphDestroy(CUgraph graph) {
  return guard([&]() -> CUresult {
    if (const CUresult wrong = enter_without_context()) return wrong;
    return graphs().remove(graph) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

}  // extern "C"

}  // namespace heed::simulator
