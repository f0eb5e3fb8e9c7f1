// Graphs: the work of a capture in the order of the calls, which its dependencies allow. A launch runs the nodes one
// after another as one item of a stream.
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
  // Called when a stream waits for an event of this capture: the stream becomes part of it.
  void fork(CUstream stream);
  // Called when a stream of the capture waits for the work of another stream after its first `nodes` nodes.
  void join(CUstream stream, size_t nodes);
  size_t nodes_of(CUstream stream);
  bool unjoined();
  void invalidate();
  bool is_invalid();
  std::vector<CUstream> members();
  Nodes take();

 private:
  struct Member {
    size_t nodes = 0;   // nodes that the stream has recorded
    size_t joined = 0;  // those nodes that the origin or another stream has waited for
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
