// The software device as a program sees it: the library is opened, and its functions are found by name.
//
// Some tests need a process of their own (a lost device stays lost): child() runs one test of this program again, in
// another environment.
#pragma once
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "check.h"
#include "cuda/driver.h"

namespace heed::test {

using namespace cuda;

struct Library {
  Driver driver;  // every function that the backend uses
  void* handle;

  static Library& get() {
    static Library& library = *new Library(HEED_SIMULATOR_LIBRARY);
    return library;
  }
  explicit Library(const char* path) : handle(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
    if (!handle) report("%s", dlerror());
#define DRIVER(name, symbol, params) driver.name = find<CUresult params>(#symbol);
#include "cuda/driver.def"
#undef DRIVER
  }
  template <class F>
  F* find(const char* symbol) const {
    return handle ? reinterpret_cast<F*>(dlsym(handle, symbol)) : nullptr;
  }
};

// The first use in a process; the tests that share it have four devices.
inline const Driver& driver() {
  static const Driver& once = [&]() -> const Driver& {
    if (!std::getenv("HEED_SIMULATOR_DEVICES")) setenv("HEED_SIMULATOR_DEVICES", "4", 1);
    const Driver& driver = Library::get().driver;
    if (driver.init) driver.init(0);
    return driver;
  }();
  return once;
}

// Result codes of the driver that the backend does not name.
enum : int { invalid_handle = 400, not_found = 500 };

inline CUresult launch(CUfunction function, unsigned grid, unsigned block, unsigned shared, CUstream queue,
                       std::vector<void*> values) {
  return driver().launch_kernel(function, grid, 1, 1, block, 1, 1, shared, queue, values.data(), nullptr);
}

// Functions of the driver API that the software device has and the backend does not call.
struct Further {
  CUresult (*primary_context_release)(CUdevice device);
  CUresult (*module_unload)(CUmodule module);
  CUresult (*stream_wait_event)(CUstream stream, CUevent event, unsigned flags);
  CUresult (*event_query)(CUevent event);
  CUresult (*launch_host_func)(CUstream stream, CUhostFn function, void* data);
};
inline const Further& further() {
  static const Library& library = Library::get();
  static const Further once{library.find<CUresult(CUdevice)>("cuDevicePrimaryCtxRelease_v2"),
                            library.find<CUresult(CUmodule)>("cuModuleUnload"),
                            library.find<CUresult(CUstream, CUevent, unsigned)>("cuStreamWaitEvent"),
                            library.find<CUresult(CUevent)>("cuEventQuery"),
                            library.find<CUresult(CUstream, CUhostFn, void*)>("cuLaunchHostFunc")};
  return once;
}

inline void set_delay(uint64_t microseconds) {
  Library::get().find<void(uint64_t)>("heedSimulatorSetDelay")(microseconds);
}

#define EXPECT_CODE(call, code)                                                                     \
  do {                                                                                              \
    const int code_of_call = (call);                                                                \
    if (code_of_call != (code))                                                                     \
      heed::test::report("%s:%d: %s gave %d, expected %d", __FILE__, __LINE__, #call, code_of_call, \
                         static_cast<int>(code));                                                   \
  } while (0)
#define EXPECT_SUCCESS(call) EXPECT_CODE(call, CUDA_SUCCESS)

// The primary context of a device, which is current for this thread.
class Context {
 public:
  explicit Context(int ordinal = 0) : ordinal_(ordinal) {
    CUcontext context = nullptr;
    EXPECT_SUCCESS(driver().primary_context_retain(&context, ordinal));
    EXPECT_SUCCESS(driver().context_set_current(context));
  }
  ~Context() { further().primary_context_release(ordinal_); }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

 private:
  int ordinal_;
};

inline CUstream make_stream(unsigned flags = CU_STREAM_NON_BLOCKING) {
  CUstream stream = nullptr;
  EXPECT_SUCCESS(driver().stream_create(&stream, flags));
  return stream;
}
inline CUdeviceptr allocate(size_t bytes) {
  CUdeviceptr address = 0;
  EXPECT_SUCCESS(driver().mem_alloc(&address, bytes));
  return address;
}
template <class T>
T* allocate_pinned(size_t count) {
  void* address = nullptr;
  EXPECT_SUCCESS(driver().mem_host_alloc(&address, count * sizeof(T), CU_MEMHOSTALLOC_PORTABLE));
  return static_cast<T*>(address);
}
inline CUmodule load(const std::string& ptx) {
  CUmodule module = nullptr;
  char log[512] = "";
  CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void* values[] = {log, reinterpret_cast<void*>(sizeof log)};
  EXPECT_SUCCESS(driver().module_load_data_ex(&module, ptx.c_str(), 2, options, values));
  if (*log) report("%s", log);
  return module;
}
inline CUfunction find(CUmodule module, const char* name) {
  CUfunction function = nullptr;
  EXPECT_SUCCESS(driver().module_get_function(&function, module, name));
  return function;
}
template <class T>
std::vector<T> download(CUdeviceptr address, size_t count, CUstream stream) {
  std::vector<T> values(count);
  EXPECT_SUCCESS(driver().memcpy_dtoh_async(values.data(), address, count * sizeof(T), stream));
  return values;
}

inline bool is_child() { return std::getenv("HEED_TEST_CHILD") != nullptr; }

struct Outcome {
  int status;  // the exit code, or -1 if it did not exit
  std::string output;
};
// `environment` has the form "NAME=value NAME=value".
inline Outcome child(const char* test, const std::string& environment) {
  char self[4096] = "";
  if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) return {-1, "no /proc"};
  const std::string command =
      "HEED_TEST_CHILD=1 HEED_SIMULATOR_DEVICES=1 " + environment + " timeout 100 " + self + " " + test + " 2>&1";
  std::FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return {-1, "popen"};
  Outcome outcome{-1, ""};
  char text[4096];
  size_t bytes;
  while ((bytes = std::fread(text, 1, sizeof text, pipe)) > 0) outcome.output.append(text, bytes);
  const int status = pclose(pipe);
  if (WIFEXITED(status)) outcome.status = WEXITSTATUS(status);
  return outcome;
}
inline void expect_child(const char* test, const std::string& environment) {
  const Outcome outcome = child(test, environment);
  if (outcome.status != 0 || outcome.output.find("simulator: 1 passed") == std::string::npos)
    report("in a process of its own, exit code %d:\n%s", outcome.status, outcome.output.c_str());
}

}  // namespace heed::test
