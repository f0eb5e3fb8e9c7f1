// The enums behind the `kind` and `activation` of ops.def; kinds.def lists their members.
#pragma once
#include <cstdint>

namespace heed {

enum class Activation : int64_t {
#define ACTIVATION(name) name,
#include "core/kinds.def"
};

enum class UnaryKind : int64_t {
#define UNARY(name) name,
#include "core/kinds.def"
};

enum class BinaryKind : int64_t {
#define BINARY(name) name,
#include "core/kinds.def"
};

enum class ReduceKind : int64_t {
#define REDUCE(name) name,
#include "core/kinds.def"
};

enum class BlockKind : int64_t {
#define BLOCK(name) name,
#include "core/kinds.def"
};

// The number of members of each enum.
#define ACTIVATION(name) +1
constexpr int64_t kActivations =
#include "core/kinds.def"
    ;
#define UNARY(name) +1
constexpr int64_t kUnaryKinds =
#include "core/kinds.def"
    ;
#define BINARY(name) +1
constexpr int64_t kBinaryKinds =
#include "core/kinds.def"
    ;
#define REDUCE(name) +1
constexpr int64_t kReduceKinds =
#include "core/kinds.def"
    ;

#define BLOCK(name) +1
constexpr int64_t kBlockKinds =
#include "core/kinds.def"
    ;

}  // namespace heed
