// HEED_IN_LOOP marks functions that are parts of one loop, which the compiler must not call.
#pragma once

#define HEED_IN_LOOP inline __attribute__((always_inline))
