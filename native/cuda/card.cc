#include "cuda/card.h"

#include <cstdio>
#include <cstring>

#include "cuda/check.h"

namespace heed::cuda {
namespace {

constexpr int kLowestMajor = 8;       // the PTX is for compute_80
constexpr int kLowestDriver = 11040;  // PTX 7.4 needs it

// For example 12020 → "12.2".
std::string words(int version) { return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10); }

struct Cards {
  std::vector<std::unique_ptr<Card>> list;
  std::string problem;
};

Cards find_cards() {
  Cards cards;
  if (kKernelsProblem) {
    cards.problem = kKernelsProblem;
    return cards;
  }
  const Driver* d = driver();
  if (!d) {
    cards.problem = driver_problem();
    return cards;
  }
  const CUresult started = d->init(0);
  int version = 0;
  if (started == CUDA_SUCCESS && d->driver_get_version(&version) == CUDA_SUCCESS && version < kLowestDriver) {
    cards.problem = "expected a driver of CUDA " + words(kLowestDriver) + " (version 470) or later, got one of CUDA " +
                    words(version);
    return cards;
  }
  int count = 0;
  if (started == CUDA_SUCCESS) d->device_get_count(&count);
  if (started == CUDA_ERROR_NO_DEVICE || (started == CUDA_SUCCESS && count == 0)) {
    cards.problem = "the CUDA driver shows no device";
    return cards;
  }
  if (started != CUDA_SUCCESS) {
    const char* text = nullptr;
    d->get_error_string(started, &text);
    cards.problem = std::string("the CUDA driver does not start: ") + (text ? text : "unknown error");
    return cards;
  }
  for (int i = 0; i < count && i < kMaxDevices; i++) {
    CUdevice device;
    if (d->device_get(&device, i) == CUDA_SUCCESS) cards.list.push_back(std::make_unique<Card>(i, device));
  }
  return cards;
}

// Throws ERR_DEVICE if the card cannot run an image. `what` names the kernel that was asked for, or the image.
void expect_runs_on(const Card& card, const Image& image, const char* what, const char* op) {
  if (!image.runs_on(card.major, card.minor))
    fail(Code::device,
         "%s: expected a card of compute capability %d.%d%s for the kernel %s, got cuda:%d, which has %d.%d", op,
         image.architecture / 10, image.architecture % 10, image.exact ? "" : " or later", what, card.index, card.major,
         card.minor);
}

// Never destroyed; driver.cc explains why.
const Cards& cards() {
  static const Cards* const once = new Cards(find_cards());
  return *once;
}

}  // namespace

const std::vector<std::unique_ptr<Card>>& Card::all() { return cards().list; }
const char* Card::problem() { return cards().list.empty() ? cards().problem.c_str() : nullptr; }

std::string Card::driver_version() {
  int version = 0;
  if (!driver() || driver()->driver_get_version(&version) != CUDA_SUCCESS) return "";
  return words(version);
}

Card::Card(int index, CUdevice device) : index(index), device(device) {
  const Driver& d = *driver();
  char text[256] = "";
  d.device_get_name(text, sizeof text, device);
  name = text;
  d.device_total_mem(&memory, device);
  const auto attribute = [&](CUdevice_attribute which) {
    int value = 0;
    d.device_get_attribute(&value, which, device);
    return value;
  };
  major = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
  minor = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  multiprocessors = attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  shared_limit = static_cast<size_t>(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN));
  pools = attribute(CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED) && !missing(Feature::pools);
  if (major < kLowestMajor)
    unusable = "expected compute capability 8.0 or later, got " + std::to_string(major) + "." + std::to_string(minor);
}

CUcontext Card::make_current(const char* op) {
  const Driver& d = *driver();
  CUcontext context = context_.load(std::memory_order_acquire);
  if (!context) {
    const std::lock_guard lock(mutex_);
    context = context_.load(std::memory_order_relaxed);
    if (!context) expect_success(d.primary_context_retain(&context, device), op, "opening the device");
    context_.store(context, std::memory_order_release);
  }
  expect_success(d.context_set_current(context), op, "using the device");
  return context;
}

void Card::try_make_current() {
  try {
    make_current("device");
  } catch (const Error&) {
  }
}

size_t Card::free_memory() {
  size_t free = 0, total = 0;
  driver()->mem_get_info(&free, &total);
  return free;
}

CUfunction Card::function(KernelEntry& kernel, const char* op, const Unpack& unpack) {
  const CUfunction known = kernel.functions[index].load(std::memory_order_acquire);
  if (known) return known;
  expect_runs_on(*this, kernel.image, kernel.name, op);
  Module& own = module_of(kernel.image);
  const std::lock_guard lock(own.loading);
  if (!own.module) {
    if (!unpack) fail(Code::internal, "%s: expected a stream that can unpack the kernels of %s", op, kernel.image.name);
    own.module = load_module(kernel.image, op, unpack(kernel.image).data());
  }
  return find(kernel, own.module, op);
}

void Card::load(const Image& image, const char* op, const char* unpacked) {
  expect_runs_on(*this, image, image.name, op);
  make_current(op);
  Module& own = module_of(image);
  const std::lock_guard lock(own.loading);
  if (!own.module) own.module = load_module(image, op, unpacked);
  // If the driver loads lazily, machine code goes to the card only now.
  for (KernelEntry* kernel = KernelEntry::first(); kernel; kernel = kernel->next)
    if (&kernel->image == &image) find(*kernel, own.module, op);
}

bool Card::has_loaded(const Image& image) { return module_of(image).module; }

Card::Module& Card::module_of(const Image& image) {
  const std::lock_guard lock(mutex_);
  return modules_[&image];
}

CUfunction Card::find(KernelEntry& kernel, CUmodule module, const char* op) {
  const Driver& d = *driver();
  CUfunction function = kernel.functions[index].load(std::memory_order_acquire);
  if (function) return function;
  expect_success(d.module_get_function(&function, module, kernel.name), op, kernel.name);
  // Allows all the shared memory that a block can have, so that a launch only says how much it wants.
  int fixed = 0;
  d.function_get_attribute(&fixed, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, function);
  d.function_set_attribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                           static_cast<int>(shared_limit) - fixed);
  kernel.functions[index].store(function, std::memory_order_release);
  return function;
}

CUmodule Card::load_module(const Image& image, const char* op, const char* unpacked) {
  const Driver& d = *driver();
  CUmodule module = nullptr;
  const Cubin* const cubin = image.cubin_for(major, minor);
  if (cubin && d.module_load_data_ex(&module, unpacked + cubin->offset, 0, nullptr, nullptr) == CUDA_SUCCESS)
    return module;
  char log[1024] = "";
  CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void* values[] = {log, reinterpret_cast<void*>(sizeof log)};
  const CUresult result = d.module_load_data_ex(&module, unpacked + image.ptx, 2, options, values);
  if (result != CUDA_SUCCESS) {
    char doing[300];
    std::snprintf(doing, sizeof doing, "loading the kernels of %s%s%.200s", image.name, *log ? ": " : "", log);
    expect_success(result, op, doing);
  }
  return module;
}

}  // namespace heed::cuda
