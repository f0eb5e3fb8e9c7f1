// Tests devices through the driver API: the list of devices, their attributes by compute capability, settings in the
// environment, and contexts.
#include <thread>

#include "driver_kernels.h"
#include "driver_library.h"

namespace heed::test {

TEST(driver_before_init) {
  if (!is_child()) return expect_child("driver_before_init", "");
  const Driver& d = Library::get().driver;
  int value = 0;
  EXPECT_CODE(d.device_get_count(&value), CUDA_ERROR_NOT_INITIALIZED);
  EXPECT_SUCCESS(d.driver_get_version(&value));
  EXPECT(value == 12020);
  EXPECT_CODE(d.init(1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_SUCCESS(d.init(0));
  CUstream queue;
  EXPECT_CODE(d.stream_create(&queue, 0), CUDA_ERROR_INVALID_CONTEXT);
}

TEST(driver_devices) {
  const Driver& d = driver();
  int count = 0, value = 0;
  CUdevice device;
  EXPECT_SUCCESS(d.device_get_count(&count));
  EXPECT(count == 4);
  EXPECT_CODE(d.device_get(&device, 4), CUDA_ERROR_INVALID_DEVICE);
  EXPECT_CODE(d.device_get(&device, -1), CUDA_ERROR_INVALID_DEVICE);
  EXPECT_SUCCESS(d.device_get(&device, 3));
  char name[64];
  EXPECT_SUCCESS(d.device_get_name(name, sizeof name, device));
  EXPECT(std::string(name) == "heed software device");
  EXPECT_SUCCESS(d.device_get_name(name, 5, device));
  EXPECT(std::string(name) == "heed");
  const std::pair<CUdevice_attribute, int> expected[] = {
      {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 8},
      {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0},
      {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
      {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 108},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 48 << 10},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 163 << 10}};
  for (const auto& [attribute, what] : expected) {
    EXPECT_SUCCESS(d.device_get_attribute(&value, attribute, device));
    EXPECT(value == what);
  }
  EXPECT_CODE(d.device_get_attribute(&value, 100000, device), CUDA_ERROR_INVALID_VALUE);
  size_t bytes = 0;
  EXPECT_SUCCESS(d.device_total_mem(&bytes, 0));
  EXPECT(bytes == size_t{2} << 30);
  const char* text = nullptr;
  EXPECT_SUCCESS(d.get_error_name(CUDA_ERROR_ILLEGAL_ADDRESS, &text));
  EXPECT(std::string(text) == "CUDA_ERROR_ILLEGAL_ADDRESS");
  EXPECT_SUCCESS(d.get_error_string(CUDA_ERROR_OUT_OF_MEMORY, &text));
  EXPECT(std::string(text) == "out of memory");
  EXPECT_CODE(d.get_error_name(12345, &text), CUDA_ERROR_INVALID_VALUE);
}

TEST(driver_settings_of_the_environment) {
  if (!is_child())
    return expect_child("driver_settings_of_the_environment",
                        "HEED_SIMULATOR_DEVICES=2 HEED_SIMULATOR_MEMORY=1000000 HEED_SIMULATOR_CAPABILITY=75 "
                        "HEED_SIMULATOR_DRIVER_VERSION=11040 HEED_SIMULATOR_MULTIPROCESSORS=4");
  const Driver& d = driver();
  int value = 0;
  EXPECT_SUCCESS(d.device_get_count(&value));
  EXPECT(value == 2);
  EXPECT_SUCCESS(d.driver_get_version(&value));
  EXPECT(value == 11040);
  EXPECT_SUCCESS(d.device_get_attribute(&value, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 1));
  EXPECT(value == 7);
  EXPECT_SUCCESS(d.device_get_attribute(&value, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 1));
  EXPECT(value == 4);
  size_t bytes = 0;
  EXPECT_SUCCESS(d.device_total_mem(&bytes, 1));
  EXPECT(bytes == 1000000);
  // CUDA 11.4 accepts PTX 7.4 and nothing later; the device's capability limits the target.
  Context context;
  CUmodule module;
  const std::string ptx = ".version 7.4\n.target sm_75\n.address_size 64\n.visible .entry k() { ret; }\n";
  EXPECT_SUCCESS(d.module_load_data_ex(&module, ptx.c_str(), 0, nullptr, nullptr));
  EXPECT_CODE(d.module_load_data_ex(&module, (".version 7.5" + ptx.substr(12)).c_str(), 0, nullptr, nullptr),
              CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
  EXPECT_CODE(d.module_load_data_ex(&module, kernels, 0, nullptr, nullptr), CUDA_ERROR_INVALID_PTX);
}

// 48 KiB by default, and for a block that opts in as much as cards of each compute capability have.
TEST(driver_shared_memory_of_compute_capabilities) {
  struct Expected {
    int capability, block_kb, multiprocessor_kb, threads, blocks;
  };
  const Expected cards[] = {{75, 64, 64, 1024, 16},    {80, 163, 164, 2048, 32}, {86, 99, 100, 1536, 16},
                            {89, 99, 100, 1536, 24},   {90, 227, 228, 2048, 32}, {100, 227, 228, 2048, 32},
                            {103, 227, 228, 2048, 32}, {120, 99, 100, 1536, 24}};
  if (!is_child()) {
    for (const Expected& card : cards)
      expect_child("driver_shared_memory_of_compute_capabilities",
                   "HEED_SIMULATOR_CAPABILITY=" + std::to_string(card.capability));
    return;
  }
  const Driver& d = driver();
  const int number = std::atoi(std::getenv("HEED_SIMULATOR_CAPABILITY"));
  const auto attribute = [&](int which) {
    int value = 0;
    EXPECT_SUCCESS(d.device_get_attribute(&value, static_cast<CUdevice_attribute>(which), 0));
    return value;
  };
  for (const Expected& card : cards) {
    if (card.capability != number) continue;
    const int limit = card.block_kb * 1024;
    EXPECT(attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) == number / 10);
    EXPECT(attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR) == number % 10);
    EXPECT(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN) == limit);
    EXPECT(attribute(81) == card.multiprocessor_kb * 1024);  // shared memory of a multiprocessor
    EXPECT(attribute(111) == (card.multiprocessor_kb - card.block_kb) * 1024);
    EXPECT(attribute(39) == card.threads);  // per multiprocessor
    EXPECT(attribute(106) == card.blocks);  // per multiprocessor
    EXPECT(attribute(82) == 65536);         // registers per multiprocessor
    Context context;
    const CUstream queue = make_stream();
    const std::string ptx =
        ".version 7.4\n.target sm_75\n.address_size 64\n.extern .shared .align 16 .b8 dynamic[];\n"
        ".visible .entry k() { .reg .b32 %r<2>; mov.u32 %r1, 1; st.shared.u32 [dynamic+8], %r1; ret; }\n";
    const CUfunction kernel = find(load(ptx), "k");
    EXPECT_CODE(launch(kernel, 1, 1, (48 << 10) + 4, queue, {}), CUDA_ERROR_INVALID_VALUE);
    const auto attribute_of_kernel = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    EXPECT_CODE(d.function_set_attribute(kernel, attribute_of_kernel, limit + 1), CUDA_ERROR_INVALID_VALUE);
    EXPECT_SUCCESS(d.function_set_attribute(kernel, attribute_of_kernel, limit));
    EXPECT_CODE(launch(kernel, 1, 1, static_cast<unsigned>(limit) + 4, queue, {}), CUDA_ERROR_INVALID_VALUE);
    EXPECT_SUCCESS(launch(kernel, 1, 1, static_cast<unsigned>(limit), queue, {}));
    EXPECT_SUCCESS(d.stream_synchronize(queue));
  }
}

TEST(driver_no_device) {
  if (!is_child()) return expect_child("driver_no_device", "HEED_SIMULATOR_DEVICES=0");
  EXPECT_CODE(Library::get().driver.init(0), CUDA_ERROR_NO_DEVICE);
}

TEST(driver_contexts) {
  const Driver& d = driver();
  CUcontext first = nullptr, second = nullptr, current = nullptr;
  EXPECT_SUCCESS(d.primary_context_retain(&first, 0));
  EXPECT_SUCCESS(d.primary_context_retain(&second, 0));
  EXPECT(first == second);
  EXPECT_SUCCESS(d.context_set_current(first));
  auto* get = Library::get().find<CUresult(CUcontext*)>("cuCtxGetCurrent");
  EXPECT_SUCCESS(get(&current));
  EXPECT(current == first);
  std::thread([&] {  // each thread has a context of its own
    EXPECT_SUCCESS(get(&current));
    EXPECT(current == nullptr);
  })
      .join();
  const CUdeviceptr left = allocate(1000);
  EXPECT_SUCCESS(further().primary_context_release(0));
  EXPECT_SUCCESS(d.mem_free(left));
  allocate(1000);
  make_stream();
  const CUmodule module = load(kernels);  // it has a variable
  size_t allocations = 0;
  auto* used = Library::get().find<size_t(int, size_t*)>("heedSimulatorMemoryUsed");
  EXPECT(used(0, &allocations) >= 1000 && allocations >= 1);
  EXPECT_SUCCESS(further().primary_context_release(0));  // the last release frees everything that is left
  EXPECT(used(0, &allocations) == 0 && allocations == 0);
  EXPECT_CODE(further().module_unload(module), invalid_handle);
  EXPECT_CODE(further().primary_context_release(0), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT_CODE(d.primary_context_retain(&first, 9), CUDA_ERROR_INVALID_DEVICE);
}

}  // namespace heed::test
