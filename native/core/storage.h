// Reference-counted device memory and the handle JavaScript holds. JavaScript thread only.
#pragma once
#include <memory>

#include "core/allocator.h"
#include "core/failure.h"
#include "core/tensor.h"

namespace heed {

class Device;

// Keeps memory alive that belongs to someone else. It is destroyed on the JavaScript thread when no storage has the
// memory any more and nothing in the device's queue uses it (Device::let_go).
class Owner {
 public:
  explicit Owner(bool read_only) : read_only(read_only) {}
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;
  virtual ~Owner();
  const bool read_only;  // true if operations must not write to the memory
};

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
  std::unique_ptr<Owner> owner = nullptr;  // owner of foreign memory; null if the device's allocator has made the block

  void* data() const { return block.data; }
  int64_t bytes() const { return static_cast<int64_t>(block.requested); }
};

// A view and its share of a storage. A native tensor handle points to it.
struct Handle {
  TensorView view;
  Storage* storage;  // null once released
};

}  // namespace heed
