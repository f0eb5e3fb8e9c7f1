// Tests the driver API through the library's symbols: memory, modules, launches, errors.
#include <numeric>
#include <thread>

#include "driver_kernels.h"
#include "driver_library.h"

namespace heed::test {

namespace {

CUresult launch_add(CUfunction add, CUdeviceptr out, CUdeviceptr in, uint32_t value, uint32_t n, CUstream queue) {
  return launch(add, (n + 63) / 64, 64, 0, queue, {&out, &in, &value, &n});
}

}  // namespace

TEST(driver_functions_are_all_there) {
  const Driver& d = driver();
  int count = 0;
#define DRIVER(name, symbol, params) \
  EXPECT(d.name != nullptr);         \
  count++;
#include "cuda/driver.def"
#undef DRIVER
  EXPECT(count >= 40);
  auto* get = Library::get().find<CUresult(const char*, void**, int, uint64_t)>("cuGetProcAddress");
  void* function = nullptr;
  EXPECT_SUCCESS(get("cuMemAlloc", &function, 12020, 0));
  EXPECT(function == reinterpret_cast<void*>(d.mem_alloc));
  EXPECT_CODE(get("cuNothing", &function, 12020, 0), not_found);
  // The library exports nothing but the API.
  EXPECT(!Library::get().find<void()>("_ZN4heed9simulator7devicesEv"));
}

TEST(driver_memory) {
  const Driver& d = driver();
  Context context;
  const CUstream queue = make_stream();
  size_t before = 0, after = 0, total = 0;
  EXPECT_SUCCESS(d.mem_get_info(&before, &total));
  const CUdeviceptr a = allocate(1003), b = allocate(1003);
  EXPECT(a % 256 == 0 && b % 256 == 0);
  EXPECT_SUCCESS(d.mem_get_info(&after, &total));
  EXPECT(before - after == 2006 && total == size_t{2} << 30);
  std::vector<uint8_t> values(1003);
  std::iota(values.begin(), values.end(), uint8_t{0});
  EXPECT_SUCCESS(d.memcpy_htod_async(a, values.data(), 1003, queue));
  EXPECT_SUCCESS(d.memcpy_dtod_async(b + 3, a, 1000, queue));
  EXPECT_SUCCESS(d.memset_d8_async(b, 0xee, 3, queue));
  EXPECT_SUCCESS(d.memset_d8_async(b + 1002, 0xaa, 1, queue));
  const std::vector<uint8_t> got = download<uint8_t>(b, 1003, queue);
  for (size_t i = 0; i < 1003; i++) EXPECT(got[i] == (i < 3 ? 0xee : i == 1002 ? 0xaa : values[i - 3]));
  // An invalid call has an error of its own; the device still works.
  EXPECT_CODE(d.memcpy_htod_async(a + 4, values.data(), 1000, queue), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CODE(d.memcpy_htod_async(0, values.data(), 4, queue), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CODE(d.memcpy_dtoh_async(values.data(), a + 1000, 4, queue), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CODE(d.memset_d8_async(reinterpret_cast<CUdeviceptr>(values.data()), 0, 4, queue), CUDA_ERROR_INVALID_VALUE);
  EXPECT_SUCCESS(d.memcpy_htod_async(a, values.data(), 0, queue));
  CUdeviceptr c = 0;
  EXPECT_CODE(d.mem_alloc(&c, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CODE(d.mem_alloc(&c, (size_t{2} << 30) - 1000), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_CODE(d.mem_free(a + 256), CUDA_ERROR_INVALID_VALUE);
  EXPECT_SUCCESS(d.mem_free(a));
  EXPECT_CODE(d.mem_free(a), CUDA_ERROR_INVALID_VALUE);
  EXPECT_SUCCESS(d.mem_free(b));
  EXPECT_SUCCESS(d.mem_get_info(&after, &total));
  EXPECT(before == after);
  const CUdeviceptr all = allocate((size_t{2} << 30) - 1000);  // it did not fit before
  EXPECT_SUCCESS(d.mem_free(all));
  uint8_t* pinned = allocate_pinned<uint8_t>(10);
  EXPECT_SUCCESS(d.mem_free_host(pinned));
  EXPECT_CODE(d.mem_free_host(pinned), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CODE(d.mem_free_host(values.data()), CUDA_ERROR_INVALID_VALUE);
  EXPECT_SUCCESS(d.stream_destroy(queue));
  EXPECT_CODE(d.stream_destroy(queue), invalid_handle);
  EXPECT_CODE(d.stream_synchronize(queue), invalid_handle);
}

TEST(driver_memory_of_other_devices) {
  const Driver& d = driver();
  Context first(0);
  const CUstream queue = make_stream();
  const CUdeviceptr a = allocate(64);
  EXPECT_SUCCESS(d.memset_d8_async(a, 5, 64, queue));
  CUdeviceptr b;
  {
    Context second(1);
    b = allocate(64);
    CUcontext context;
    EXPECT_CODE(d.stream_synchronize(queue), invalid_handle);  // a stream of another device
    EXPECT_SUCCESS(d.primary_context_retain(&context, 0));
    EXPECT_SUCCESS(d.context_set_current(context));
    EXPECT_SUCCESS(d.memcpy_dtod_async(b, a, 64, queue));
    EXPECT_SUCCESS(d.stream_synchronize(queue));
    EXPECT_SUCCESS(further().primary_context_release(0));
    EXPECT_SUCCESS(d.primary_context_retain(&context, 1));
    EXPECT_SUCCESS(d.context_set_current(context));
    const CUstream other = make_stream();
    EXPECT(download<uint8_t>(b, 64, other) == std::vector<uint8_t>(64, 5));
    EXPECT_SUCCESS(further().primary_context_release(1));
  }
}

TEST(driver_modules) {
  const Driver& d = driver();
  Context context;
  CUmodule module = nullptr;
  char log[256] = "";
  CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void* values[] = {log, reinterpret_cast<void*>(sizeof log)};
  const auto try_load = [&](const char* image) {
    *log = 0;
    values[1] = reinterpret_cast<void*>(sizeof log);
    return d.module_load_data_ex(&module, image, 2, options, values);
  };
  const char cubin[64] =
      "\x7f"
      "ELF\x02\x01\x01";
  EXPECT_CODE(try_load(cubin), CUDA_ERROR_NO_BINARY_FOR_GPU);
  EXPECT_CODE(try_load(".version 8.3\n.target sm_80\n"), CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
  EXPECT(std::string(log).find("8.3") != std::string::npos);
  EXPECT_CODE(try_load(".version 8.2\n.target sm_90\n.address_size 64\n"), CUDA_ERROR_INVALID_PTX);
  EXPECT(std::string(log).find("sm_90") != std::string::npos &&
         reinterpret_cast<size_t>(values[1]) == std::string(log).size() + 1);
  EXPECT_CODE(try_load("no PTX"), CUDA_ERROR_INVALID_PTX);
  EXPECT_CODE(try_load(".version 7.4\n.target sm_80\n.address_size 64\n.visible .entry k( {"), CUDA_ERROR_INVALID_PTX);
  EXPECT(std::string(log).find("line") != std::string::npos);
  EXPECT_SUCCESS(try_load(kernels));
  CUfunction function = nullptr, again = nullptr;
  EXPECT_CODE(d.module_get_function(&function, module, "nothing"), not_found);
  EXPECT_SUCCESS(d.module_get_function(&function, module, "add"));
  EXPECT_SUCCESS(d.module_get_function(&again, module, "add"));
  EXPECT(function == again);
  auto* global = Library::get().find<CUresult(CUdeviceptr*, size_t*, CUmodule, const char*)>("cuModuleGetGlobal_v2");
  CUdeviceptr address = 0;
  size_t bytes = 0;
  EXPECT_SUCCESS(global(&address, &bytes, module, "answer"));
  const CUstream queue = make_stream();
  EXPECT(bytes == 4 && download<uint32_t>(address, 1, queue)[0] == 42);
  EXPECT_CODE(global(&address, &bytes, module, "question"), not_found);
  EXPECT_SUCCESS(further().module_unload(module));
  EXPECT_CODE(further().module_unload(module), invalid_handle);
  EXPECT_CODE(launch(function, 1, 1, 0, queue, {}), invalid_handle);
}

TEST(driver_launches) {
  const Driver& d = driver();
  Context context;
  const CUstream queue = make_stream();
  const CUmodule module = load(kernels);
  const CUfunction add = find(module, "add");
  constexpr uint32_t n = 1000;
  CUdeviceptr in = allocate(n * 4), out = allocate(n * 4);
  std::vector<uint32_t> values(n);
  std::iota(values.begin(), values.end(), 0u);
  EXPECT_SUCCESS(d.memcpy_htod_async(in, values.data(), n * 4, queue));
  EXPECT_SUCCESS(launch_add(add, out, in, 7, n, queue));
  const auto got = download<uint32_t>(out, n, queue);
  for (uint32_t i = 0; i < n; i++) EXPECT(got[i] == i + 7);
  // Parameters in one buffer.
  struct {
    CUdeviceptr out, in;
    uint32_t value, n;
  } packed{out, in, 9, n};
  size_t bytes = sizeof packed;
  void* extra[] = {reinterpret_cast<void*>(1), &packed, reinterpret_cast<void*>(2), &bytes, nullptr};
  EXPECT_SUCCESS(d.launch_kernel(add, 16, 1, 1, 64, 1, 1, 0, queue, nullptr, extra));
  EXPECT(download<uint32_t>(out, n, queue)[n - 1] == n - 1 + 9);
  bytes = 20;
  EXPECT_CODE(d.launch_kernel(add, 16, 1, 1, 64, 1, 1, 0, queue, nullptr, extra), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CODE(d.launch_kernel(add, 16, 1, 1, 64, 1, 1, 0, queue, nullptr, nullptr), CUDA_ERROR_INVALID_VALUE);
  // Shapes.
  std::vector<void*> p{&out, &in, &packed.value, &packed.n};
  const auto shape = [&](unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz) {
    return d.launch_kernel(add, gx, gy, gz, bx, by, bz, 0, queue, p.data(), nullptr);
  };
  EXPECT_CODE(shape(0, 1, 1, 1, 1, 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CODE(shape(1, 65536, 1, 1, 1, 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CODE(shape(0x80000000u, 1, 1, 1, 1, 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CODE(shape(1, 1, 1, 1025, 1, 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CODE(shape(1, 1, 1, 32, 33, 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CODE(shape(1, 1, 1, 1, 1, 65), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CODE(shape(1, 1, 1, 1, 0, 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_SUCCESS(shape(1, 1, 1, 1024, 1, 1));
  EXPECT_CODE(launch(nullptr, 1, 1, 0, queue, {}), invalid_handle);
  EXPECT_SUCCESS(d.stream_synchronize(queue));
}

TEST(driver_shared_memory_and_attributes) {
  const Driver& d = driver();
  Context context;
  const CUstream queue = make_stream();
  const CUmodule module = load(kernels);
  const CUfunction shared = find(module, "shared"), fixed = find(module, "fixed");
  CUdeviceptr out = allocate(512);
  int value = 0;
  EXPECT_SUCCESS(d.function_get_attribute(&value, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, fixed));
  EXPECT(value == 16384);
  EXPECT_SUCCESS(d.function_get_attribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, fixed));
  EXPECT(value == 128);
  EXPECT_SUCCESS(d.function_get_attribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, shared));
  EXPECT(value == 1024);
  EXPECT_SUCCESS(d.function_get_attribute(&value, CU_FUNC_ATTRIBUTE_NUM_REGS, shared));
  EXPECT(value > 0 && value < 64);
  EXPECT_SUCCESS(d.function_get_attribute(&value, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, shared));
  EXPECT(value == 0);
  EXPECT_CODE(launch(fixed, 1, 129, 0, queue, {&out}), CUDA_ERROR_INVALID_VALUE);
  EXPECT_SUCCESS(launch(fixed, 1, 128, 0, queue, {&out}));
  EXPECT(download<uint32_t>(out, 128, queue)[127] == 127 + 7);
  // 48 KiB, including static memory, without opting in for more.
  EXPECT_SUCCESS(launch(shared, 1, 100, 48 << 10, queue, {&out}));
  EXPECT(download<uint32_t>(out, 1, queue)[0] == 99);
  EXPECT_CODE(launch(shared, 1, 100, (48 << 10) + 1, queue, {&out}), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CODE(launch(fixed, 1, 100, (32 << 10) + 1, queue, {&out}), CUDA_ERROR_INVALID_VALUE);
  EXPECT_SUCCESS(d.function_set_attribute(shared, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 163 << 10));
  EXPECT_CODE(d.function_set_attribute(shared, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (163 << 10) + 1),
              CUDA_ERROR_INVALID_VALUE);
  EXPECT_CODE(d.function_set_attribute(fixed, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 163 << 10),
              CUDA_ERROR_INVALID_VALUE);
  EXPECT_SUCCESS(launch(shared, 1, 64, 163 << 10, queue, {&out}));
  EXPECT(download<uint32_t>(out, 64, queue)[10] == 63);
  EXPECT_CODE(d.function_set_attribute(shared, CU_FUNC_ATTRIBUTE_NUM_REGS, 3), CUDA_ERROR_INVALID_VALUE);
}

// A device that is lost stays lost; the others continue.
TEST(driver_lost_device) {
  if (!is_child()) {
    const Outcome outcome = child("driver_lost_device", "HEED_SIMULATOR_DEVICES=2");
    EXPECT(outcome.status == 0);
    // The report names the error, and only once.
    const size_t first = outcome.output.find("heed simulator: device 1: ");
    EXPECT(first != std::string::npos && outcome.output.find("wild", first) != std::string::npos);
    EXPECT(outcome.output.find("heed simulator:", first + 1) == std::string::npos);
    return;
  }
  const Driver& d = driver();
  Context context(1);
  const CUstream queue = make_stream();
  const CUfunction wild = find(load(kernels), "wild");
  CUdeviceptr out = allocate(64);
  CUevent event;
  EXPECT_SUCCESS(d.event_create(&event, 0));
  EXPECT_SUCCESS(launch(wild, 1, 1, 0, queue, {&out}));
  launch(wild, 1, 1, 0, queue, {&out});
  d.event_record(event, queue);
  EXPECT_CODE(d.stream_synchronize(queue), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_CODE(d.event_synchronize(event), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_CODE(further().event_query(event), CUDA_ERROR_ILLEGAL_ADDRESS);
  CUdeviceptr more = 0;
  EXPECT_CODE(d.mem_alloc(&more, 64), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_CODE(d.mem_free(out), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_CODE(launch(wild, 1, 1, 0, queue, {&out}), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_CODE(d.stream_destroy(queue), CUDA_ERROR_ILLEGAL_ADDRESS);
  Context other(0);
  EXPECT_SUCCESS(d.memset_d8_async(allocate(64), 1, 64, make_stream()));
}

TEST(driver_lost_after_some_launches) {
  if (!is_child()) return expect_child("driver_lost_after_some_launches", "HEED_SIMULATOR_LOST_AFTER=2");
  const Driver& d = driver();
  Context context;
  const CUstream queue = make_stream();
  const CUfunction add = find(load(kernels), "add");
  const CUdeviceptr data = allocate(400);
  EXPECT_SUCCESS(d.memset_d8_async(data, 0, 400, queue));
  for (int i = 0; i < 2; i++) {
    EXPECT_SUCCESS(launch_add(add, data, data, 1, 100, queue));
    EXPECT_SUCCESS(d.stream_synchronize(queue));
  }
  EXPECT_SUCCESS(launch_add(add, data, data, 1, 100, queue));
  EXPECT_CODE(d.stream_synchronize(queue), CUDA_ERROR_LAUNCH_FAILED);
  EXPECT_CODE(launch_add(add, data, data, 1, 100, queue), CUDA_ERROR_LAUNCH_FAILED);
}

TEST(driver_exit_with_work_pending) {
  if (is_child()) {
    const Driver& d = driver();
    auto* context = new Context;
    (void)context;
    const CUfunction slow = find(load(kernels), "slow");
    CUdeviceptr out = allocate(4);
    uint32_t n = 10000000;
    for (int i = 0; i < 4; i++) {
      const CUstream queue = make_stream();
      EXPECT_SUCCESS(d.memset_d8_async(out, 0, 4, queue));
      for (int k = 0; k < 100; k++) EXPECT_SUCCESS(launch(slow, 1, 1, 0, queue, {&out, &n}));
    }
    std::thread([&d] {  // another thread waits too
      Context mine;
      d.stream_synchronize(nullptr);
    })
        .detach();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    std::puts("exits");
    std::exit(7);
  }
  // Pending work is never freed at the exit; AddressSanitizer need not report that.
  const Outcome outcome =
      child("driver_exit_with_work_pending", "ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0");
  EXPECT(outcome.status == 7 && outcome.output.find("exits") != std::string::npos);
}

TEST(driver_counters) {
  const std::string file = "/tmp/heed-counters-" + std::to_string(getpid()) + ".json";
  if (!is_child()) {
    expect_child("driver_counters", "HEED_SIMULATOR_COUNTERS=" + file);
    std::string text(4096, 0);
    std::FILE* written = std::fopen(file.c_str(), "r");
    EXPECT(written);
    if (!written) return;
    text.resize(std::fread(text.data(), 1, text.size(), written));
    std::fclose(written);
    std::remove(file.c_str());
    EXPECT(text.find("\"add\": {\"launches\": 3, \"blocks\": 6,") != std::string::npos);
    return;
  }
  const Driver& d = driver();
  Context context;
  const CUstream queue = make_stream();
  const CUfunction add = find(load(kernels), "add");
  const CUdeviceptr data = allocate(512);
  EXPECT_SUCCESS(d.memset_d8_async(data, 0, 512, queue));
  const auto run = [&] {
    EXPECT_SUCCESS(launch_add(add, data, data, 1, 128, queue));
    EXPECT_SUCCESS(d.stream_synchronize(queue));
  };
  auto* counters = Library::get().find<size_t(char*, size_t)>("heedSimulatorCounters");
  run();
  std::string json(counters(nullptr, 0) + 1, 0);
  counters(json.data(), json.size());
  EXPECT(json.find("\"launches\": 1,") != std::string::npos &&
         json.find("\"global_load_bytes\": 512,") != std::string::npos);
  Library::get().find<void()>("heedSimulatorResetCounters")();
  EXPECT(counters(nullptr, 0) == 2);  // {}
  for (int i = 0; i < 3; i++) run();
}

// A variant of the library that lacks a function which only one feature needs.
TEST(driver_that_lacks_a_function) {
  const Library old(HEED_SIMULATOR_OLD_LIBRARY);
  EXPECT(old.handle && !old.driver.graph_instantiate);
  EXPECT(old.driver.init && old.driver.graph_launch && old.driver.memset_d8_async);
}

TEST(driver_threads) {
  const Driver& d = driver();
  Context context;
  const CUfunction add = find(load(kernels), "add");
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 6; t++)
    threads.emplace_back([&, t] {
      Context mine;
      const CUstream queue = make_stream();
      const uint32_t n = 100 + t;
      const CUdeviceptr data = allocate(n * 4);
      EXPECT_SUCCESS(d.memset_d8_async(data, 0, n * 4, queue));
      for (uint32_t i = 0; i < 20; i++) EXPECT_SUCCESS(launch_add(add, data, data, t, n, queue));
      EXPECT(download<uint32_t>(data, n, queue) == std::vector<uint32_t>(n, 20 * t));
      EXPECT_SUCCESS(d.mem_free(data));
      EXPECT_SUCCESS(d.stream_destroy(queue));
    });
  for (auto& thread : threads) thread.join();
}

}  // namespace heed::test
