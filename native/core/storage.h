// Reference-counted device memory and the handle JavaScript holds. JavaScript thread only.
#pragma once
#include "core/allocator.h"
#include "core/failure.h"
#include "core/tensor.h"

namespace heed {

class Device;

struct Storage {
  Device* device;
  Block block;
  int64_t references;
  int64_t capture;  // the last graph that was captured while this was used or made; 0 for none
  // For OperationLog: a number that no other storage of the device gets, the list of those that live, and why the
  // elements mean nothing (null where they do).
  uint64_t number = 0;
  Storage *next = nullptr, *previous = nullptr;
  Cause damage = nullptr;

  void* data() const { return block.data; }
  int64_t bytes() const { return static_cast<int64_t>(block.requested); }
};

// A view and its share of a storage; what a native tensor handle points to.
struct Handle {
  TensorView view;
  Storage* storage;  // null once released
};

}  // namespace heed
