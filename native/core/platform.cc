#include "core/platform.h"

#include <cstdlib>
#include <thread>

#ifdef _WIN32
#include <malloc.h>
#include <windows.h>
#else
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>
#endif
#ifdef __linux__
#include <sched.h>
#endif
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace heed {

int processor_count() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
#endif
  const unsigned n = std::thread::hardware_concurrency();
  return n ? static_cast<int>(n) : 1;
}

#ifdef _WIN32

void* allocate_aligned(size_t alignment, size_t bytes) { return _aligned_malloc(bytes, alignment); }
void free_aligned(void* block) { _aligned_free(block); }
void prefer_huge_pages(void*, size_t) {}
void discard_pages(void* range, size_t bytes) { VirtualAlloc(range, bytes, MEM_RESET, PAGE_READWRITE); }
void trim_heap() {}

void keep_loaded() {
  HMODULE self;
  GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
                     reinterpret_cast<const char*>(&keep_loaded), &self);
}

void* open_library(const char* name) { return reinterpret_cast<void*>(LoadLibraryA(name)); }
void* open_shared_library(const char* name) { return open_library(name); }
void set_default_variable(const char* name, const char* value) {
  if (!std::getenv(name)) _putenv_s(name, value);
}
void end_process(int code) {
  TerminateProcess(GetCurrentProcess(), static_cast<UINT>(code));
  std::abort();
}
void* library_symbol(void* library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
}
std::string library_problem() { return "error " + std::to_string(GetLastError()); }

#else

void* allocate_aligned(size_t alignment, size_t bytes) {
  void* block = nullptr;
  return posix_memalign(&block, alignment, bytes) == 0 ? block : nullptr;
}
void free_aligned(void* block) { std::free(block); }

void prefer_huge_pages([[maybe_unused]] void* block, [[maybe_unused]] size_t bytes) {
#ifdef MADV_HUGEPAGE
  madvise(block, bytes, MADV_HUGEPAGE);
#endif
}

void discard_pages(void* range, size_t bytes) {
#ifdef __APPLE__
  madvise(range, bytes, MADV_FREE);
#else
  madvise(range, bytes, MADV_DONTNEED);
#endif
}

void trim_heap() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

void keep_loaded() {
#ifdef __APPLE__
  Dl_info self;
  if (dladdr(reinterpret_cast<void*>(&keep_loaded), &self)) dlopen(self.dli_fname, RTLD_NOW | RTLD_NODELETE);
#endif
}

void* open_library(const char* name) { return dlopen(name, RTLD_NOW | RTLD_LOCAL); }
void* open_shared_library(const char* name) { return dlopen(name, RTLD_NOW | RTLD_GLOBAL); }
void set_default_variable(const char* name, const char* value) { setenv(name, value, 0); }
void end_process(int code) { _exit(code); }
void* library_symbol(void* library, const char* name) { return dlsym(library, name); }
std::string library_problem() {
  const char* reason = dlerror();
  return reason ? reason : "unknown error";
}

#endif

}  // namespace heed
