// The results of each PTX instruction as pure functions with the semantics of the PTX ISA manual. The executor decides
// when and for which lanes they run; nothing here knows about memory, programs or schedules.
//
// Registers. A register is an array of 32 lanes. Values of up to 32 bits are in uint32_t[32] (an 8- or 16-bit value is
// in the low bits; the bits above are ignored when read and zero when written), and 64-bit values in uint64_t[32].
// Functions of one lane take and return plain values.
//
// Numbers do not depend on the machine: no function of the C library whose last bit could differ is used, and nothing
// is fused unless the instruction says so.
#pragma once
#include "simulator/approx.h"
#include "simulator/arithmetic.h"
#include "simulator/bits.h"
#include "simulator/conversions.h"
#include "simulator/half.h"
#include "simulator/matrix.h"
#include "simulator/warp.h"
