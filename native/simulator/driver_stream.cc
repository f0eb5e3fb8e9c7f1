// The driver's functions on streams, events and host functions.
#include <new>
#include <thread>

#include "simulator/graph.h"
#include "simulator/stream.h"

namespace heed::simulator {
namespace {

Handles<CUevent_st>& events() {
  static auto& handles = *new Handles<CUevent_st>;
  return handles;
}

void call(CUhostFn function, void* data) {
  set_in_host_function(true);
  function(data);
  set_in_host_function(false);
}

// The single thread that runs the host functions of all streams, as in a driver that has only one.
class Callbacks {
 public:
  Callbacks() {
    std::thread([this] { work(); }).detach();
  }
  // Returns when the function has run.
  void run(CUhostFn function, void* data) {
    Mark done;
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back([&] {
        call(function, data);
        done.reach();
      });
    }
    changed_.notify_one();
    done.wait();
  }

 private:
  void work() {
    for (;;) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !waiting_.empty(); });
      const auto next = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      next();
    }
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> waiting_;
};

Callbacks& callbacks() {
  static auto& callbacks = *new Callbacks;
  return callbacks;
}

constexpr unsigned event_flags = 1 | 2 | 4;  // blocking sync, no timing, for other processes

// Refuses a call that waits on a stream that is being captured: it is not allowed, and it ends the capture.
CUresult refuse_capture(CUstream_st& stream) {
  const auto capture = stream.capture();
  if (!capture) return CUDA_SUCCESS;
  capture->invalidate();
  return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

}  // namespace

extern "C" {

CUresult cuStreamCreate(CUstream* stream, unsigned flags) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    if (!stream || flags > CU_STREAM_NON_BLOCKING) return CUDA_ERROR_INVALID_VALUE;
    *stream = streams().add(CUstream_st::make(*device, flags != CU_STREAM_NON_BLOCKING));
    return CUDA_SUCCESS;
  });
}

// The priorities of an H100. The device runs one kernel at a time, so that they change nothing but what is accepted.
CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return CUDA_SUCCESS;
  });
}

CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned flags, int) { return cuStreamCreate(stream, flags); }

CUresult cuStreamDestroy_v2(CUstream handle) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter_without_context()) return wrong;
    const auto stream = streams().get(handle);
    if (!stream || stream->implicit) return CUDA_ERROR_INVALID_HANDLE;
    stream->close();
    return enter(&device);
  });
}

CUresult cuStreamSynchronize(CUstream handle) {
  return guard([&]() -> CUresult {
    std::shared_ptr<CUstream_st> stream;
    if (const CUresult wrong = enter_stream(handle, &stream)) return wrong;
    if (const CUresult wrong = refuse_capture(*stream)) return wrong;
    if (stream->implicit)
      for (const auto& other : streams().all())
        if (other->device == stream->device && other->blocking) other->finish();
    stream->finish();
    return stream->device->error();
  });
}

CUresult cuStreamQuery(CUstream handle) {
  return guard([&]() -> CUresult {
    std::shared_ptr<CUstream_st> stream;
    if (const CUresult wrong = enter_stream(handle, &stream)) return wrong;
    if (const CUresult wrong = refuse_capture(*stream)) return wrong;
    if (!stream->idle()) return CUDA_ERROR_NOT_READY;
    return stream->device->error();
  });
}

CUresult cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned flags) {
  return guard([&]() -> CUresult {
    std::shared_ptr<CUstream_st> stream;
    if (const CUresult wrong = enter_stream(handle, &stream)) return wrong;
    if (flags > 1) return CUDA_ERROR_INVALID_VALUE;
    const auto event = events().get(event_handle);
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    std::shared_ptr<Mark> mark;
    {
      const std::lock_guard lock(event->mutex);
      const auto capture = stream->capture();
      if (event->is_captured) {
        const auto of_event = event->captured.lock();
        if (!of_event || (capture && capture != of_event)) return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
        if (stream->implicit) return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
        of_event->join(event->captured_stream, event->captured_nodes);
        if (!capture) {
          of_event->fork(stream.get());
          stream->set_capture(of_event);
        }
        return CUDA_SUCCESS;
      }
      if (capture) {  // a launch cannot wait for an event from outside the capture
        capture->invalidate();
        return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
      }
      mark = event->mark;
    }
    if (mark) stream->push([mark](Device&) { mark->wait(); }, true);
    return CUDA_SUCCESS;
  });
}

CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void* data) {
  return guard([&]() -> CUresult {
    std::shared_ptr<CUstream_st> stream;
    if (const CUresult wrong = enter_stream(handle, &stream)) return wrong;
    if (!function) return CUDA_ERROR_INVALID_VALUE;
    stream->submit([function, data](Device&) {
      if (settings().one_callback_thread)
        callbacks().run(function, data);
      else
        call(function, data);
    });
    return CUDA_SUCCESS;
  });
}

CUresult cuEventCreate(CUevent* event, unsigned flags) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    if (!event || flags & ~event_flags) return CUDA_ERROR_INVALID_VALUE;
    *event = events().add(std::shared_ptr<CUevent_st>(new CUevent_st{flags, {}, {}, {}}));
    return CUDA_SUCCESS;
  });
}

CUresult cuEventDestroy_v2(CUevent event) {
  return guard([&]() -> CUresult {
    if (const CUresult wrong = enter_without_context()) return wrong;
    return events().remove(event) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

CUresult cuEventRecord(CUevent event_handle, CUstream handle) {
  return guard([&]() -> CUresult {
    std::shared_ptr<CUstream_st> stream;
    if (const CUresult wrong = enter_stream(handle, &stream)) return wrong;
    const auto event = events().get(event_handle);
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    const std::lock_guard lock(event->mutex);
    if (const auto capture = stream->capture()) {
      event->is_captured = true;
      event->captured = capture;
      event->captured_stream = stream.get();
      event->captured_nodes = capture->nodes_of(stream.get());
      return CUDA_SUCCESS;
    }
    event->is_captured = false;
    event->mark = stream->record();
    return CUDA_SUCCESS;
  });
}

CUresult cuEventQuery(CUevent event_handle) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    const auto event = events().get(event_handle);
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    const std::lock_guard lock(event->mutex);
    if (event->is_captured) return CUDA_ERROR_CAPTURED_EVENT;
    if (event->mark && !event->mark->reached()) return CUDA_ERROR_NOT_READY;
    return device->error();
  });
}

CUresult cuEventSynchronize(CUevent event_handle) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    const auto event = events().get(event_handle);
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    std::shared_ptr<Mark> mark;
    {
      const std::lock_guard lock(event->mutex);
      if (event->is_captured) return CUDA_ERROR_CAPTURED_EVENT;
      mark = event->mark;
    }
    if (mark) mark->wait();
    return device->error();
  });
}

CUresult cuEventElapsedTime(float* milliseconds, CUevent start_handle, CUevent end_handle) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    const auto start = events().get(start_handle), end = events().get(end_handle);
    if (!start || !end || (start->flags | end->flags) & CU_EVENT_DISABLE_TIMING) return CUDA_ERROR_INVALID_HANDLE;
    if (!milliseconds) return CUDA_ERROR_INVALID_VALUE;
    Clock::time_point times[2];
    int i = 0;
    for (const auto& event : {start, end}) {
      const std::lock_guard lock(event->mutex);
      if (!event->mark) return CUDA_ERROR_INVALID_HANDLE;
      if (!event->mark->reached()) return CUDA_ERROR_NOT_READY;
      times[i++] = event->mark->time();
    }
    *milliseconds = std::chrono::duration<float, std::milli>(times[1] - times[0]).count();
    return CUDA_SUCCESS;
  });
}

}  // extern "C"

}  // namespace heed::simulator
