// The host functions of every operation, one in each .cu file, declared from ops.def: a definition whose signature
// differs does not link.
#pragma once
#include "core/op_table.h"

namespace heed::cuda {

class Stream;

#define OP(name, params) void name(Stream& stream, HEED_UNPACK params);
#include "core/ops.def"
#undef OP

const OpTable<Stream>& ops();

}  // namespace heed::cuda
