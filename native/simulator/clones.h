// HEED_CLONES before a function compiles it for newer instruction sets too; the machine's best one is selected when the
// library is loaded. All of them give the same bits, because nothing is contracted (-ffp-contract=off).
#pragma once

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && \
    !defined(__SANITIZE_ADDRESS__)
#define HEED_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define HEED_CLONES
#endif
