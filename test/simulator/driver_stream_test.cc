// Tests streams, events, host functions, capture and graphs: work is asynchronous, and these order it.
#include <atomic>
#include <chrono>
#include <thread>

#include "driver_kernels.h"
#include "driver_library.h"

namespace heed::test {

namespace {

enum : int {
  illegal_state = 401,
  not_permitted = 800,
  capture_unsupported = 900,
  capture_invalidated = 901,
  capture_unmatched = 903,
  capture_unjoined = 904,
  capture_isolation = 905,
  captured_event = 907,
  capture_wrong_thread = 908,
};
constexpr CUstreamCaptureMode thread_local_mode = 1, relaxed = 2;
constexpr uint64_t delay = 30000;  // microseconds: longer than the calls of a test take

// Work starts late during its lifetime.
struct Delay {
  Delay() { set_delay(delay); }
  ~Delay() { set_delay(0); }
};

CUevent make_event(unsigned flags = CU_EVENT_DEFAULT) {
  CUevent event = nullptr;
  EXPECT_SUCCESS(driver().event_create(&event, flags));
  return event;
}

void add(CUfunction function, CUdeviceptr data, uint32_t value, CUstream queue) {
  uint32_t n = 64;
  void* values[] = {&data, &data, &value, &n};
  EXPECT_SUCCESS(driver().launch_kernel(function, 1, 1, 1, 64, 1, 1, 0, queue, values, nullptr));
}

uint32_t first(CUdeviceptr data, CUstream queue) { return download<uint32_t>(data, 1, queue)[0]; }

void nap(void*) { std::this_thread::sleep_for(std::chrono::milliseconds(30)); }

}  // namespace

TEST(stream_memory_is_had_in_its_order) {
  if (!is_child()) return expect_child("stream_memory_is_had_in_its_order", "HEED_SIMULATOR_MEMORY=16777216");
  const Driver& d = driver();
  Context context;
  const CUstream queue = make_stream(), other = make_stream();
  size_t free = 0, total = 0;
  CUdeviceptr half = 0, whole = 0, more = 0;
  EXPECT_SUCCESS(d.mem_get_info(&free, &total));
  EXPECT_SUCCESS(d.mem_alloc_async(&half, free / 2, queue));
  EXPECT_CODE(d.mem_alloc_async(&whole, free, queue), CUDA_ERROR_OUT_OF_MEMORY);
  {
    Delay late;
    EXPECT_SUCCESS(d.memset_d8_async(half, 7, 4, queue));
    EXPECT_SUCCESS(d.mem_free_async(half, queue));
    EXPECT_CODE(d.mem_free_async(half, queue), CUDA_ERROR_INVALID_VALUE);
    // Other streams, and whoever waits for none, have the memory when the stream has come there; the stream has it now.
    EXPECT_CODE(d.mem_alloc_async(&more, free, other), CUDA_ERROR_OUT_OF_MEMORY);
    EXPECT_CODE(d.mem_alloc(&more, free), CUDA_ERROR_OUT_OF_MEMORY);
    EXPECT_SUCCESS(d.mem_alloc_async(&whole, free, queue));
    EXPECT_CODE(d.mem_alloc_async(&more, 1024, queue), CUDA_ERROR_OUT_OF_MEMORY);
  }
  EXPECT_SUCCESS(d.stream_synchronize(queue));
  EXPECT_CODE(d.mem_alloc_async(&more, 1024, queue), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_SUCCESS(d.mem_free(whole));
  // What was not had so is not given back so.
  const CUdeviceptr data = allocate(1024);
  EXPECT_CODE(d.mem_free_async(data, queue), CUDA_ERROR_INVALID_VALUE);
}

TEST(stream_pageable_memory_is_read_at_the_call) {
  Context context;
  const CUstream queue = make_stream();
  const CUdeviceptr data = allocate(4);
  Delay late;
  uint32_t host = 1;
  EXPECT_SUCCESS(driver().memcpy_htod_async(data, &host, 4, queue));
  host = 2;
  EXPECT(first(data, queue) == 1);
}

// A program that changes pinned memory before the copy has run copies the wrong data, here as on a card.
TEST(stream_pinned_memory_is_read_later) {
  Context context;
  const CUstream queue = make_stream();
  const CUdeviceptr data = allocate(4);
  auto* pinned = allocate_pinned<uint32_t>(2);
  Delay late;
  pinned[0] = 1;
  pinned[1] = 77;
  EXPECT_SUCCESS(driver().memcpy_htod_async(data, pinned, 4, queue));
  pinned[0] = 2;
  EXPECT_SUCCESS(driver().memcpy_dtoh_async(pinned + 1, data, 4, queue));
  EXPECT(pinned[1] == 77);  // has not arrived yet
  EXPECT_SUCCESS(driver().stream_synchronize(queue));
  EXPECT(pinned[1] == 2);
  EXPECT_SUCCESS(driver().mem_free_host(pinned));
}

TEST(stream_work_is_asynchronous_and_in_order) {
  Context context;
  const CUstream queue = make_stream();
  const CUfunction function = find(load(kernels), "add");
  const CUdeviceptr data = allocate(256);
  const CUevent event = make_event();
  EXPECT_SUCCESS(further().event_query(event));  // never recorded
  Delay late;
  EXPECT_SUCCESS(driver().memset_d8_async(data, 0, 256, queue));
  for (uint32_t i = 0; i < 50; i++) add(function, data, i, queue);
  EXPECT_SUCCESS(driver().event_record(event, queue));
  EXPECT_CODE(further().event_query(event), CUDA_ERROR_NOT_READY);
  auto* query = Library::get().find<CUresult(CUstream)>("cuStreamQuery");
  EXPECT_CODE(query(queue), CUDA_ERROR_NOT_READY);
  EXPECT_SUCCESS(driver().event_synchronize(event));
  EXPECT_SUCCESS(further().event_query(event));
  EXPECT_SUCCESS(driver().stream_synchronize(queue));
  EXPECT_SUCCESS(query(queue));
  EXPECT(first(data, queue) == 49 * 50 / 2);
  // Freeing waits for the work that uses the memory.
  add(function, data, 1, queue);
  EXPECT_SUCCESS(driver().mem_free(data));
  EXPECT_SUCCESS(driver().stream_synchronize(queue));
}

TEST(stream_destroyed_with_work_left) {
  Context context;
  const CUfunction function = find(load(kernels), "add");
  const CUdeviceptr data = allocate(256);
  {
    Delay late;
    const CUstream queue = make_stream();
    EXPECT_SUCCESS(driver().memset_d8_async(data, 0, 256, queue));
    add(function, data, 5, queue);
    EXPECT_SUCCESS(driver().stream_destroy(queue));
  }
  EXPECT_SUCCESS(Library::get().find<CUresult()>("cuCtxSynchronize")());
  EXPECT(first(data, make_stream()) == 5);
}

TEST(stream_events_measure_time) {
  Context context;
  const CUstream queue = make_stream();
  const CUevent start = make_event(), end = make_event(CU_EVENT_BLOCKING_SYNC),
                untimed = make_event(CU_EVENT_DISABLE_TIMING);
  float milliseconds = 0;
  EXPECT_CODE(driver().event_elapsed_time(&milliseconds, start, end), invalid_handle);
  EXPECT_SUCCESS(driver().event_record(start, queue));
  EXPECT_SUCCESS(further().launch_host_func(queue, nap, nullptr));
  EXPECT_SUCCESS(driver().event_record(end, queue));
  EXPECT_SUCCESS(driver().event_record(untimed, queue));
  EXPECT_CODE(driver().event_elapsed_time(&milliseconds, start, end), CUDA_ERROR_NOT_READY);
  EXPECT_SUCCESS(driver().event_synchronize(end));
  EXPECT_SUCCESS(driver().event_elapsed_time(&milliseconds, start, end));
  EXPECT(milliseconds >= 30 && milliseconds < 3000);
  EXPECT_CODE(driver().event_elapsed_time(&milliseconds, start, untimed), invalid_handle);
  EXPECT_SUCCESS(driver().event_destroy(start));
  EXPECT_CODE(driver().event_destroy(start), invalid_handle);
  EXPECT_CODE(driver().event_record(start, queue), invalid_handle);
  CUevent event;
  EXPECT_CODE(driver().event_create(&event, 64), CUDA_ERROR_INVALID_VALUE);
}

TEST(stream_waits_for_an_event_of_another) {
  Context context;
  const CUstream producer = make_stream(), consumer = make_stream();
  const CUfunction function = find(load(kernels), "add");
  const CUdeviceptr data = allocate(256), copy = allocate(256);
  const CUevent event = make_event(CU_EVENT_DISABLE_TIMING);
  EXPECT_SUCCESS(further().stream_wait_event(consumer, event, 0));  // never recorded: no wait
  EXPECT_SUCCESS(driver().memset_d8_async(data, 0, 256, producer));
  EXPECT_SUCCESS(further().launch_host_func(producer, nap, nullptr));
  add(function, data, 3, producer);
  EXPECT_SUCCESS(driver().event_record(event, producer));
  EXPECT_SUCCESS(further().stream_wait_event(consumer, event, 0));
  EXPECT_SUCCESS(driver().event_record(event, producer));  // the wait is for the record before
  EXPECT_SUCCESS(driver().memcpy_dtod_async(copy, data, 256, consumer));
  EXPECT_SUCCESS(driver().event_destroy(event));
  EXPECT(first(copy, consumer) == 3);
}

TEST(stream_implicit_order) {
  Context context;
  const CUstream blocking = make_stream(0);
  const CUdeviceptr data = allocate(4);
  const uint32_t one = 1, two = 2;
  // The stream of handle 0 waits for the blocking streams, and they wait for it.
  EXPECT_SUCCESS(further().launch_host_func(blocking, nap, nullptr));
  EXPECT_SUCCESS(driver().memcpy_htod_async(data, &one, 4, blocking));
  EXPECT(first(data, nullptr) == 1);
  EXPECT_SUCCESS(further().launch_host_func(nullptr, nap, nullptr));
  EXPECT_SUCCESS(driver().memcpy_htod_async(data, &two, 4, nullptr));
  EXPECT(first(data, blocking) == 2);
  auto* in = Library::get().find<CUresult(CUdeviceptr, const void*, size_t)>("cuMemcpyHtoD_v2");
  auto* out = Library::get().find<CUresult(void*, CUdeviceptr, size_t)>("cuMemcpyDtoH_v2");
  uint32_t got = 0;
  EXPECT_SUCCESS(in(data, &one, 4));
  EXPECT_SUCCESS(out(&got, data, 4));
  EXPECT(got == 1);
}

TEST(stream_host_functions) {
  Context context;
  const CUstream queue = make_stream();
  struct State {
    CUdeviceptr data;
    std::atomic<int> calls;
    int code;
  } state{allocate(4), {0}, 0};
  EXPECT_SUCCESS(further().launch_host_func(
      queue,
      [](void* data) {
        auto* state = static_cast<State*>(data);
        state->calls++;
        CUdeviceptr address;
        state->code = driver().mem_alloc(&address, 4);  // calls from a host function are not allowed
      },
      &state));
  EXPECT_SUCCESS(driver().stream_synchronize(queue));
  EXPECT(state.calls == 1 && state.code == not_permitted);
  EXPECT_CODE(further().launch_host_func(queue, nullptr, nullptr), CUDA_ERROR_INVALID_VALUE);
}

TEST(graph_of_kernels_copies_and_host_functions) {
  const Driver& d = driver();
  Context context;
  const CUstream queue = make_stream();
  const CUfunction function = find(load(kernels), "add");
  const CUdeviceptr data = allocate(256), copy = allocate(256);
  auto* pinned = allocate_pinned<uint32_t>(1);
  std::atomic<int> calls{0};
  EXPECT_SUCCESS(d.memset_d8_async(copy, 0, 256, queue));
  EXPECT_SUCCESS(d.stream_begin_capture(queue, relaxed));
  EXPECT_CODE(d.stream_begin_capture(queue, relaxed), illegal_state);
  EXPECT_SUCCESS(d.memcpy_htod_async(data, pinned, 4, queue));
  EXPECT_SUCCESS(d.memset_d8_async(data + 4, 0, 252, queue));
  for (uint32_t i = 1; i <= 3; i++) add(function, data, i, queue);  // each copy has a value of its own
  EXPECT_SUCCESS(d.memcpy_dtod_async(copy, data, 256, queue));
  EXPECT_SUCCESS(
      further().launch_host_func(queue, [](void* calls) { ++*static_cast<std::atomic<int>*>(calls); }, &calls));
  CUgraph graph = nullptr;
  EXPECT_SUCCESS(d.stream_end_capture(queue, &graph));
  EXPECT_SUCCESS(d.stream_synchronize(queue));
  EXPECT(first(copy, queue) == 0 && calls == 0);  // nothing has run
  CUgraphExec exec = nullptr;
  EXPECT_SUCCESS(d.graph_instantiate(&exec, graph, 0));
  EXPECT_SUCCESS(d.graph_destroy(graph));
  EXPECT_CODE(d.graph_destroy(graph), CUDA_ERROR_INVALID_VALUE);
  for (uint32_t i = 1; i <= 3; i++) {
    pinned[0] = 100 * i;
    EXPECT_SUCCESS(d.graph_launch(exec, queue));
    EXPECT_SUCCESS(d.stream_synchronize(queue));
    EXPECT(first(copy, queue) == 100 * i + 6 && calls == static_cast<int>(i));
  }
  {
    Delay late;  // a launched graph runs although it is destroyed
    EXPECT_SUCCESS(d.graph_launch(exec, queue));
    EXPECT_SUCCESS(d.graph_exec_destroy(exec));
    EXPECT_CODE(d.graph_launch(exec, queue), CUDA_ERROR_INVALID_VALUE);
    EXPECT_SUCCESS(d.stream_synchronize(queue));
    EXPECT(calls == 4);
  }
}

TEST(graph_captures_fork_and_join) {
  const Driver& d = driver();
  Context context;
  const CUstream main = make_stream(), side = make_stream();
  const CUfunction function = find(load(kernels), "add");
  const CUdeviceptr data = allocate(256), other = allocate(256);
  EXPECT_SUCCESS(d.memset_d8_async(data, 0, 256, main));
  EXPECT_SUCCESS(d.memset_d8_async(other, 0, 256, main));
  EXPECT_SUCCESS(d.stream_synchronize(main));
  const CUevent fork = make_event(), join = make_event();
  CUgraph graph = nullptr;
  CUgraphExec exec = nullptr;
  const auto capture = [&](bool joins) {
    EXPECT_SUCCESS(d.stream_begin_capture(main, thread_local_mode));
    add(function, data, 1, main);
    EXPECT_SUCCESS(d.event_record(fork, main));
    EXPECT_SUCCESS(further().stream_wait_event(side, fork, 0));
    add(function, other, 10, side);
    EXPECT_CODE(d.stream_end_capture(side, &graph), capture_unmatched);
    EXPECT_SUCCESS(d.event_record(join, side));
    EXPECT_CODE(further().event_query(join), captured_event);
    EXPECT_CODE(d.event_synchronize(join), captured_event);
    if (joins) EXPECT_SUCCESS(further().stream_wait_event(main, join, 0));
    return d.stream_end_capture(main, &graph);
  };
  EXPECT_CODE(capture(false), capture_unjoined);
  EXPECT(graph == nullptr);
  EXPECT_SUCCESS(d.stream_synchronize(side));  // it is not captured any more
  EXPECT_SUCCESS(capture(true));
  EXPECT_SUCCESS(d.graph_instantiate(&exec, graph, 0));
  EXPECT_SUCCESS(d.graph_launch(exec, main));
  EXPECT_SUCCESS(d.graph_launch(exec, main));
  EXPECT(first(data, main) == 2 && first(other, main) == 20);
}

TEST(graph_capture_that_fails) {
  const Driver& d = driver();
  Context context;
  const CUstream queue = make_stream();
  const CUdeviceptr data = allocate(256);
  CUgraph graph = nullptr;
  EXPECT_CODE(d.stream_end_capture(queue, &graph), illegal_state);
  EXPECT_CODE(d.stream_begin_capture(nullptr, relaxed), capture_unsupported);
  // Waiting for a stream that is being captured ends the capture.
  EXPECT_SUCCESS(d.stream_begin_capture(queue, relaxed));
  EXPECT_SUCCESS(d.memset_d8_async(data, 0, 256, queue));
  EXPECT_CODE(d.stream_synchronize(queue), capture_unsupported);
  EXPECT_CODE(d.stream_end_capture(queue, &graph), capture_invalidated);
  EXPECT(graph == nullptr);
  // Waiting within the capture for work outside it does so too.
  const CUevent outside = make_event();
  EXPECT_SUCCESS(d.event_record(outside, make_stream()));
  EXPECT_SUCCESS(d.stream_begin_capture(queue, relaxed));
  EXPECT_CODE(further().stream_wait_event(queue, outside, 0), capture_isolation);
  EXPECT_CODE(d.stream_end_capture(queue, &graph), capture_invalidated);
  // Only a relaxed capture may end on another thread.
  for (const CUstreamCaptureMode mode : {thread_local_mode, relaxed}) {
    EXPECT_SUCCESS(d.stream_begin_capture(queue, mode));
    std::thread([&] {
      Context mine;
      EXPECT_CODE(d.stream_end_capture(queue, &graph),
                  mode == relaxed ? static_cast<int>(CUDA_SUCCESS) : capture_wrong_thread);
    }).join();
    if (mode != relaxed) EXPECT_SUCCESS(d.stream_end_capture(queue, &graph));
    EXPECT_SUCCESS(d.graph_destroy(graph));
  }
  EXPECT_SUCCESS(d.stream_synchronize(queue));
}

}  // namespace heed::test
