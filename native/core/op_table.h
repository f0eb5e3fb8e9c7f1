// Table of a backend's entry points, generated from ops.def. Each backend has one (the CPU has one per instruction
// set). `Stream` is the backend's in-order queue.
#pragma once
#include "core/params.h"

namespace heed {

#define HEED_UNPACK(...) __VA_ARGS__

template <class Stream>
struct OpTable {
#define OP(name, params) void (*name)(Stream & stream, HEED_UNPACK params);
#include "core/ops.def"
#undef OP
};

}  // namespace heed
