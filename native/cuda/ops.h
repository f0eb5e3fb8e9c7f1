// The host functions of every operation, one in each .cu file, declared from ops.def. They have a namespace of their
// own, so that their definitions are qualified: one whose signature differs does not compile, one that is missing does
// not link.
#pragma once
#include "core/op_table.h"

namespace heed::cuda {

class Stream;

namespace host {
#define OP(name, params) void name(Stream& stream, HEED_UNPACK params);
#include "core/ops.def"
#undef OP
}  // namespace host

const OpTable<Stream>& ops();

}  // namespace heed::cuda
