// What heed asks of the operating system. platform.cc has the only code for Linux, macOS and Windows that differs.
#pragma once
#include <cstddef>
#include <string>

namespace heed {

// Tells the processor that this thread only waits in a loop.
inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Processors that this process may use, at least 1.
int processor_count();

// Memory that begins at a multiple of `alignment`, a power of two; null if there is none.
void* allocate_aligned(size_t alignment, size_t bytes);
void free_aligned(void* block);
// Asks the system for huge pages in whole, aligned ones.
void prefer_huge_pages(void* block, size_t bytes);
// Gives the memory of whole pages back to the system, as far as it takes it; their contents are lost.
void discard_pages(void* range, size_t bytes);
// Gives back what the C library's heap keeps of freed memory.
void trim_heap();

// Sets a variable of the environment that has no value. Not while another thread may read the environment.
void set_default_variable(const char* name, const char* value);

// Ends the process at once, without handlers and destructors.
[[noreturn]] void end_process(int code);

// Keeps the library with this code in memory until the process ends. On Linux the linker does that (-z nodelete).
void keep_loaded();

// A library that is loaded at run time and stays loaded; null if it does not load, and library_problem() says why.
void* open_library(const char* name);
// Does the same for a library whose symbols its own plug-ins look up in the process, as those of MPI do.
void* open_shared_library(const char* name);
void* library_symbol(void* library, const char* name);
std::string library_problem();

}  // namespace heed
