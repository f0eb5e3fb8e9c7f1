// The driver's functions on modules and kernels: loading PTX text, attributes, launches.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "simulator/stream.h"

namespace heed::simulator {
namespace {

// A loaded module. Its handle keeps it, and so does work that runs its kernels.
struct Loaded {
  Device* device;
  std::unique_ptr<Module> module;
};

}  // namespace
}  // namespace heed::simulator

struct heed::cuda::CUfunc_st {
  std::shared_ptr<heed::simulator::Loaded> loaded;
  heed::simulator::Kernel* kernel;
  std::atomic<int> dynamic_limit;  // bytes of dynamic shared memory that a launch may request
};

struct heed::cuda::CUmod_st {
  std::shared_ptr<heed::simulator::Loaded> loaded;
  std::mutex mutex;
  std::map<std::string, CUfunction> functions;
};

namespace heed::simulator {
namespace {

Handles<CUmod_st>& modules() {
  static auto& handles = *new Handles<CUmod_st>;
  return handles;
}
Handles<CUfunc_st>& functions() {
  static auto& handles = *new Handles<CUfunc_st>;
  return handles;
}

constexpr int shared_default = 48 * 1024;  // static and dynamic together, without opting in to more

// The caller's log buffers among the options of cuModuleLoadDataEx.
struct Logs {
  char* text[2] = {nullptr, nullptr};  // info, error
  size_t size[2] = {0, 0};
  void** size_out[2] = {nullptr, nullptr};

  Logs(unsigned count, CUjit_option* options, void** values) {
    for (unsigned i = 0; i < count; i++) switch (options[i]) {
        case CU_JIT_INFO_LOG_BUFFER:
          text[0] = static_cast<char*>(values[i]);
          break;
        case CU_JIT_ERROR_LOG_BUFFER:
          text[1] = static_cast<char*>(values[i]);
          break;
        case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
          set_size(0, &values[i]);
          break;
        case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
          set_size(1, &values[i]);
          break;
        default:
          break;
      }
  }
  void set_size(int log, void** value) {
    size[log] = reinterpret_cast<size_t>(*value);
    size_out[log] = value;
  }
  void write(const std::string& info, const std::string& error) {
    const std::string* texts[] = {&info, &error};
    for (int log = 0; log < 2; log++) {
      if (!text[log] || !size[log]) continue;
      std::snprintf(text[log], size[log], "%s", texts[log]->c_str());
      *size_out[log] = reinterpret_cast<void*>(std::min(texts[log]->size() + 1, size[log]));
    }
  }
};

// Finds "major.minor" after a directive at the start of a line; returns false if there is none.
bool find_directive(const char* text, const char* directive, std::string* rest) {
  for (const char* line = text; line && *line; line = std::strchr(line, '\n')) {
    line += std::strspn(line, " \t\r\n");
    const size_t length = std::strlen(directive);
    if (std::strncmp(line, directive, length) == 0 && std::strchr(" \t", line[length])) {
      line += length + std::strspn(line + length, " \t");
      *rest = std::string(line, std::strcspn(line, " ,\t\r\n"));
      return true;
    }
    if (line[0] == '.' && std::strncmp(line, ".version", 8) && std::strncmp(line, ".target", 7)) return false;
  }
  return false;
}

// Returns the newest PTX that a driver accepts: CUDA 11.n has 7.n, CUDA 12.n has 8.n, CUDA 13.n has 9.n.
int newest_ptx(int driver_version) { return (driver_version / 1000 - 4) * 10 + driver_version % 1000 / 10; }

CUresult load(Device& device, const char* image, std::shared_ptr<Loaded>* result, std::string* error) {
  static const unsigned char elf[] = {0x7f, 'E', 'L', 'F'}, fatbin[] = {0x50, 0xed, 0x55, 0xba};
  if (!std::memcmp(image, elf, 4) || !std::memcmp(image, fatbin, 4)) {
    *error = "this device runs PTX, not machine code";
    return CUDA_ERROR_NO_BINARY_FOR_GPU;
  }
  std::string version, target;
  if (!find_directive(image, ".version", &version) || !find_directive(image, ".target", &target)) {
    *error = "ptxas application ptx input, line 1; fatal: expected .version and .target";
    return CUDA_ERROR_INVALID_PTX;
  }
  int major = 0, minor = 0, architecture = 0;
  std::sscanf(version.c_str(), "%d.%d", &major, &minor);
  std::sscanf(target.c_str(), "sm_%d", &architecture);
  if (major * 10 + minor > newest_ptx(settings().driver_version)) {
    *error = "ptxas application ptx input; fatal: PTX " + version + " is newer than the driver";
    return CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
  }
  if (architecture > settings().capability) {
    *error = "ptxas application ptx input; fatal: PTX for " + target + ", the device is sm_" +
             std::to_string(settings().capability);
    return CUDA_ERROR_INVALID_PTX;
  }
  const auto loaded = std::make_shared<Loaded>();
  loaded->device = &device;
  loaded->module = parse_module(image, error);
  if (!loaded->module) {
    *error = "ptxas application ptx input, " + *error;
    return CUDA_ERROR_INVALID_PTX;
  }
  if (!loaded->module->load(device.memory)) return CUDA_ERROR_OUT_OF_MEMORY;
  *result = loaded;
  return CUDA_SUCCESS;
}

// Writes the parameters' values to their places in the kernel's parameter buffer.
CUresult gather(const Kernel& kernel, void** parameters, void** extra, std::vector<uint8_t>* buffer) {
  buffer->resize(kernel.parameter_bytes);
  if (kernel.parameters.empty()) return CUDA_SUCCESS;
  if (parameters && extra) return CUDA_ERROR_INVALID_VALUE;
  if (parameters) {
    for (size_t i = 0; i < kernel.parameters.size(); i++) {
      if (!parameters[i]) return CUDA_ERROR_INVALID_VALUE;
      std::memcpy(buffer->data() + kernel.parameters[i].offset, parameters[i], kernel.parameters[i].bytes);
    }
    return CUDA_SUCCESS;
  }
  // CU_LAUNCH_PARAM_BUFFER_POINTER (1), CU_LAUNCH_PARAM_BUFFER_SIZE (2), CU_LAUNCH_PARAM_END (0).
  const void* data = nullptr;
  const size_t* bytes = nullptr;
  for (; extra && *extra; extra += 2) {
    if (*extra == reinterpret_cast<void*>(1)) data = extra[1];
    if (*extra == reinterpret_cast<void*>(2)) bytes = static_cast<const size_t*>(extra[1]);
  }
  if (!data || !bytes || *bytes < kernel.parameter_bytes) return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(buffer->data(), data, kernel.parameter_bytes);
  return CUDA_SUCCESS;
}

CUresult check_shape(const std::array<unsigned, 3>& grid, const std::array<unsigned, 3>& block, const Kernel& kernel) {
  constexpr std::array<unsigned, 3> largest_grid{0x7fffffff, 65535, 65535}, largest_block{1024, 1024, 64};
  for (size_t i = 0; i < 3; i++)
    if (!grid[i] || !block[i] || grid[i] > largest_grid[i] || block[i] > largest_block[i])
      return CUDA_ERROR_INVALID_VALUE;
  return block[0] * block[1] * block[2] > std::min(kernel.max_threads, 1024u) ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

// The module's kernels go with it, and its variables are freed once no work uses them.
bool unload(CUmodule handle) {
  const auto module = modules().remove(handle);
  if (!module) return false;
  for (const auto& [name, function] : module->functions) functions().remove(function);
  return true;
}

}  // namespace

// This happens at once: a graph that still holds one of the modules has nothing left to run on.
void unload_modules(const Device& device) {
  for (const auto& module : modules().all()) {
    if (module->loaded->device != &device) continue;
    unload(module.get());
    module->loaded->module->unload();
  }
}

extern "C" {

CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned count, CUjit_option* options, void** values) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    if (!module || !image || (count && (!options || !values))) return CUDA_ERROR_INVALID_VALUE;
    // A driver that compiles PTX takes this time; other threads continue meanwhile.
    std::this_thread::sleep_for(std::chrono::microseconds(settings().load_time));
    Logs logs(count, options, values);
    std::shared_ptr<Loaded> loaded;
    std::string error;
    const CUresult result = load(*device, static_cast<const char*>(image), &loaded, &error);
    logs.write("", error);
    if (result == CUDA_SUCCESS) {
      const auto made = std::make_shared<CUmod_st>();
      made->loaded = loaded;
      *module = modules().add(made);
    }
    return result;
  });
}

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}

CUresult cuModuleUnload(CUmodule handle) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    return unload(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

// If the executor cannot run a kernel, the error appears here and not at the launch; the log names the cause.
CUresult cuModuleGetFunction(CUfunction* function, CUmodule handle, const char* name) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    if (!function || !name) return CUDA_ERROR_INVALID_VALUE;
    const auto module = modules().get(handle);
    if (!module) return CUDA_ERROR_INVALID_HANDLE;
    const std::lock_guard lock(module->mutex);
    CUfunction& known = module->functions[name];
    if (!known) {
      Kernel* kernel = module->loaded->module->find(name);
      if (!kernel) return CUDA_ERROR_NOT_FOUND;
      std::string error;
      if (!kernel->prepare(&error)) {
        std::fprintf(stderr, "heed simulator: kernel %s: %s\n", name, error.c_str());
        return CUDA_ERROR_INVALID_PTX;
      }
      const int limit = shared_default - static_cast<int>(kernel->shared_bytes());
      known = functions().add(std::shared_ptr<CUfunc_st>(new CUfunc_st{module->loaded, kernel, {std::max(limit, 0)}}));
    }
    *function = known;
    return CUDA_SUCCESS;
  });
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr* address, size_t* bytes, CUmodule handle, const char* name) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    if (!name) return CUDA_ERROR_INVALID_VALUE;
    const auto module = modules().get(handle);
    if (!module) return CUDA_ERROR_INVALID_HANDLE;
    const Variable* variable = module->loaded->module->variable(name);
    if (!variable || !variable->address) return CUDA_ERROR_NOT_FOUND;
    if (address) *address = reinterpret_cast<CUdeviceptr>(variable->address);
    if (bytes) *bytes = variable->bytes;
    return CUDA_SUCCESS;
  });
}

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction handle) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    const auto function = functions().get(handle);
    if (!function) return CUDA_ERROR_INVALID_HANDLE;
    if (!value) return CUDA_ERROR_INVALID_VALUE;
    Kernel& kernel = *function->kernel;
    switch (attribute) {
      case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        *value = static_cast<int>(kernel.max_threads);
        break;
      case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
        *value = static_cast<int>(kernel.shared_bytes());
        break;
      case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
        *value = static_cast<int>(kernel.local_bytes());
        break;
      case CU_FUNC_ATTRIBUTE_NUM_REGS:
        *value = static_cast<int>(std::min(kernel.registers(), 255u));
        break;
      case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
        *value = function->dynamic_limit;
        break;
      default:
        return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
  });
}

CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    const auto function = functions().get(handle);
    if (!function) return CUDA_ERROR_INVALID_HANDLE;
    constexpr int preferred_carveout = 9;  // a hint
    if (attribute == preferred_carveout) return value >= -1 && value <= 100 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    const int limit = static_cast<int>(settings().options.shared_limit);
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 ||
        value > limit - static_cast<int>(function->kernel->shared_bytes()))
      return CUDA_ERROR_INVALID_VALUE;
    function->dynamic_limit = value;
    return CUDA_SUCCESS;
  });
}

CUresult cuLaunchKernel(CUfunction handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream_handle,
                        void** parameters, void** extra) {
  return guard([&]() -> CUresult {
    std::shared_ptr<CUstream_st> stream;
    if (const CUresult wrong = enter_stream(stream_handle, &stream)) return wrong;
    const auto function = functions().get(handle);
    if (!function || function->loaded->device != stream->device) return CUDA_ERROR_INVALID_HANDLE;
    const std::array<unsigned, 3> grid{grid_x, grid_y, grid_z}, block{block_x, block_y, block_z};
    if (const CUresult wrong = check_shape(grid, block, *function->kernel)) return wrong;
    if (shared_bytes > static_cast<unsigned>(function->dynamic_limit)) return CUDA_ERROR_INVALID_VALUE;
    std::vector<uint8_t> buffer;
    if (const CUresult wrong = gather(*function->kernel, parameters, extra, &buffer)) return wrong;
    stream->submit([=, loaded = function->loaded, kernel = function->kernel](Device& device) {
      std::vector<const void*> values;
      for (const Parameter& parameter : kernel->parameters) values.push_back(buffer.data() + parameter.offset);
      Launch launch;
      launch.kernel = kernel;
      std::copy(grid.begin(), grid.end(), launch.grid);
      std::copy(block.begin(), block.end(), launch.block);
      launch.dynamic_shared_bytes = shared_bytes;
      launch.params = values.data();
      device.launch(launch);
    });
    return CUDA_SUCCESS;
  });
}

}  // extern "C"

}  // namespace heed::simulator
