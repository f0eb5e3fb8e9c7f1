# Builds for Linux on arm64 by Debian's cross compiler: cmake --toolchain cmake/linux-arm64.cmake. Programs run by
# QEMU's emulation of user programs.
set(platform linux-arm64)
set(triple aarch64-linux-gnu)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
include(${CMAKE_CURRENT_LIST_DIR}/debian.cmake)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L ${CMAKE_SYSROOT})
