// Keys and values that lie in pages, gathered into contiguous memory.
#pragma once
#include "cuda/kernels/attention_host.h"

#if !HEED_DEVICE_CODE

namespace heed::cuda {

// Copies the keys and values of a problem out of their pages, [B, Tk, Hkv, D] each, up to each sequence's length, and
// lets the problem point to the copies, which live as long as this object. Does nothing without a problem.
class GatheredKeys {
 public:
  GatheredKeys(Stream& stream, const char* op, AttentionParams* problem, DType dtype);

 private:
  Stream::Workspace memory_;
};

}  // namespace heed::cuda

#endif
