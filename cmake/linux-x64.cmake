# Builds for Linux on x64 with an old glibc: cmake --toolchain cmake/linux-x64.cmake
set(platform linux-x64)
set(triple x86_64-linux-gnu)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
include(${CMAKE_CURRENT_LIST_DIR}/debian.cmake)
