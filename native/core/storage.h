// Reference-counted device memory and the handle JavaScript holds. JavaScript thread only.
#pragma once
#include "core/tensor.h"

namespace heed {

class Device;

struct Storage {
  Device* device;
  void* data;
  int64_t bytes;
  int64_t references;
  int64_t capture;  // the last graph that was captured while this was used or made; 0 for none
};

// A view and its share of a storage; what a native tensor handle points to.
struct Handle {
  TensorView view;
  Storage* storage;  // null once released
};

}  // namespace heed
