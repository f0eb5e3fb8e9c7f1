// Graphs: the work of a capture, in the order of the calls, which is an order its dependencies allow. A launch runs the
// nodes one after another as one item of a stream.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "simulator/stream.h"

namespace heed::simulator {

using Nodes = std::vector<Work>;

struct Capture {
  CUstream origin;
  CUstreamCaptureMode mode;
  std::thread::id thread;

  void add(CUstream stream, Work work);
  // A stream waits for an event of this capture: it becomes part of it.
  void fork(CUstream stream);
  // A stream of the capture waits for what another had done after so many nodes.
  void join(CUstream stream, size_t nodes);
  size_t nodes_of(CUstream stream);
  bool unjoined();
  void invalidate();
  bool is_invalid();
  std::vector<CUstream> members();
  Nodes take();

 private:
  struct Member {
    size_t nodes = 0;   // recorded by the stream
    size_t joined = 0;  // of them, those the origin or another stream has waited for
    bool waited = false;
  };
  std::mutex mutex_;
  bool invalid_ = false;
  Nodes nodes_;
  std::map<CUstream, Member> members_;
};

}  // namespace heed::simulator

struct heed::cuda::CUgraph_st {
  heed::simulator::Nodes nodes;
};

struct heed::cuda::CUgraphExec_st {
  heed::simulator::Device* device;
  std::shared_ptr<const heed::simulator::Nodes> nodes;
};
