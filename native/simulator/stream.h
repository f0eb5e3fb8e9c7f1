// A stream: a thread that runs its work in order, later than the calls that enqueue it. While it is captured, work goes
// into a graph instead.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "simulator/device.h"

namespace heed::simulator {

using Clock = std::chrono::steady_clock;
// One item of a stream's work, which runs on the thread of the stream.
using Work = std::function<void(Device&)>;

// A point in a stream that other threads wait for.
class Mark {
 public:
  void reach();
  void wait();
  bool reached();
  Clock::time_point time();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool reached_ = false;
  Clock::time_point time_;
};

struct Capture;

}  // namespace heed::simulator

struct heed::cuda::CUstream_st : std::enable_shared_from_this<CUstream_st> {
  using Work = heed::simulator::Work;
  using Capture = heed::simulator::Capture;

  // `implicit` marks the stream of the handle 0. Blocking streams wait for it, and it waits for them.
  static std::shared_ptr<CUstream_st> make(heed::simulator::Device& device, bool blocking, bool implicit = false);

  heed::simulator::Device* const device;
  const bool blocking, implicit;
  heed::simulator::Memory::Promise freeing{0};

  // Enqueues work, or makes it a node of the graph that is being captured.
  void submit(Work work);
  // Enqueues work. With `always` it runs even on a lost device (marks that others wait for).
  void push(Work work, bool always);
  // mark() returns a mark at the end of the enqueued work. record() also includes the work that the implicit stream's
  // order puts before it.
  std::shared_ptr<heed::simulator::Mark> mark();
  std::shared_ptr<heed::simulator::Mark> record();
  // Waits until all work that was enqueued before has run.
  void finish();
  bool idle();
  // Takes back the handle; the remaining work runs, and then the thread ends.
  void close();

  std::shared_ptr<Capture> capture();
  void set_capture(std::shared_ptr<Capture> capture);
  bool capturing() { return capture() != nullptr; }

 private:
  CUstream_st(heed::simulator::Device& device, bool blocking, bool implicit)
      : device(&device), blocking(blocking), implicit(implicit) {}
  void run();
  void join_implicit();
  // As a driver lets a call wait whose stream holds too much.
  void wait_for_room();

  struct Item {
    Work work;
    bool always;
    heed::simulator::Clock::time_point not_before;
  };
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> items_;
  uint64_t enqueued_ = 0, completed_ = 0;
  bool closed_ = false;
  std::shared_ptr<Capture> capture_;
};

struct heed::cuda::CUevent_st {
  const unsigned flags;
  std::mutex mutex;
  std::shared_ptr<heed::simulator::Mark> mark;  // mark of the last record; null if there was none
  std::weak_ptr<heed::simulator::Capture>
      captured;  // the capture in which this stream recorded it, after this number of nodes
  bool is_captured = false;
  CUstream captured_stream = nullptr;
  size_t captured_nodes = 0;
};

namespace heed::simulator {

Handles<CUstream_st>& streams();
Handles<CUstream_st>& closed_streams();  // closed streams that still have work

// Returns the stream of a handle; 0 and 1 are the device's implicit one. Returns null if there is none.
std::shared_ptr<CUstream_st> find_stream(Device& device, CUstream handle);

// Makes the checks of a call on a stream: enter(), and that the stream belongs to the device.
CUresult enter_stream(CUstream handle, std::shared_ptr<CUstream_st>* stream);

}  // namespace heed::simulator
