// The host functions of all operations, declared from ops.def; each .cu file defines one. They have a namespace of
// their own, so that their definitions are qualified: a definition with another signature does not compile, and a
// missing one does not link.
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
