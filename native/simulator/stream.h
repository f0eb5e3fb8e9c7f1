// A stream: a thread that runs its work in order, later than the calls that enqueue it. While it is captured, work goes
// into a graph instead.
#pragma once
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "simulator/device.h"

namespace heed::simulator {

using Clock = std::chrono::steady_clock;
// One thing a stream does; runs on the thread of the stream.
using Work = std::function<void(Device&)>;

// A point in a stream that others wait for.
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

  // `implicit`: the stream of the handle 0, which other streams that are not non-blocking wait for, and it for them.
  static std::shared_ptr<CUstream_st> make(heed::simulator::Device& device, bool blocking, bool implicit = false);

  heed::simulator::Device* const device;
  const bool blocking, implicit;

  // Enqueues work, or makes it a node of the graph that is being captured.
  void submit(Work work);
  // Enqueues what runs even on a lost device (marks that others wait for).
  void push(Work work, bool always);
  // A mark at the end of what has been enqueued; record(): and of what the implicit stream's order puts before it.
  std::shared_ptr<heed::simulator::Mark> mark();
  std::shared_ptr<heed::simulator::Mark> record();
  // Until all that has been enqueued by now has run.
  void finish();
  bool idle();
  // Takes the handle back; what is left runs, then the thread ends.
  void close();

  std::shared_ptr<Capture> capture();
  void set_capture(std::shared_ptr<Capture> capture);
  bool capturing() { return capture() != nullptr; }

 private:
  CUstream_st(heed::simulator::Device& device, bool blocking, bool implicit)
      : device(&device), blocking(blocking), implicit(implicit) {}
  void run();
  void join_implicit();

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
  std::shared_ptr<heed::simulator::Mark> mark;       // of the last record; null: never recorded
  std::weak_ptr<heed::simulator::Capture> captured;  // recorded in a capture, by this stream, after so many nodes
  bool is_captured = false;
  CUstream captured_stream = nullptr;
  size_t captured_nodes = 0;
};

namespace heed::simulator {

Handles<CUstream_st>& streams();
Handles<CUstream_st>& closed_streams();  // with work left

// The stream of a handle; 0 and 1 are the device's implicit one. Null if there is none.
std::shared_ptr<CUstream_st> find_stream(Device& device, CUstream handle);

// What a call on a stream checks: enter(), and that the stream is one of the device.
CUresult enter_stream(CUstream handle, std::shared_ptr<CUstream_st>* stream);

}  // namespace heed::simulator
