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
  int64_t capture;  // number of the last graph during whose capture this was used or created; 0 if there is none
  // Fields of OperationLog: a number that no other storage of the device gets, the links of the list of live storages,
  // and the reason why the elements are invalid (null if they are valid).
  uint64_t number = 0;
  Storage *next = nullptr, *previous = nullptr;
  Cause damage = nullptr;

  void* data() const { return block.data; }
  int64_t bytes() const { return static_cast<int64_t>(block.requested); }
};

// A view and its share of a storage. A native tensor handle points to it.
struct Handle {
  TensorView view;
  Storage* storage;  // null once released
};

}  // namespace heed
