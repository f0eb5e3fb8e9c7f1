// Hand-written PTX for the tests of the driver API.
#pragma once

namespace heed::test {

// add: out[i] = in[i] + value for i < n. slow: out[0] += 1 after `n` turns of a loop. wild: stores to an address
// without memory. shared: out[tid] = the tid of the last thread, through dynamic shared memory. fixed: out[tid] = tid +
// 7, through 16 KiB of static shared memory.
constexpr const char* kernels = R"(
.version 7.4
.target sm_80
.address_size 64

.global .align 4 .u32 answer = 42;
.extern .shared .align 16 .b8 dynamic[];

.visible .entry add(.param .u64 out, .param .u64 in, .param .u32 value, .param .u32 n)
{
  .reg .pred %p<2>; .reg .b32 %r<8>; .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [out]; ld.param.u64 %rd2, [in]; ld.param.u32 %r1, [value]; ld.param.u32 %r2, [n];
  mov.u32 %r3, %ctaid.x; mov.u32 %r4, %ntid.x; mov.u32 %r5, %tid.x;
  mad.lo.s32 %r6, %r3, %r4, %r5;
  setp.ge.u32 %p1, %r6, %r2;
  @%p1 bra DONE;
  mul.wide.u32 %rd3, %r6, 4;
  add.s64 %rd4, %rd2, %rd3;
  ld.global.u32 %r7, [%rd4];
  add.u32 %r7, %r7, %r1;
  add.s64 %rd5, %rd1, %rd3;
  st.global.u32 [%rd5], %r7;
DONE:
  ret;
}

.visible .entry slow(.param .u64 out, .param .u32 n)
{
  .reg .pred %p<2>; .reg .b32 %r<8>; .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [out]; ld.param.u32 %r1, [n];
  mov.u32 %r2, 0;
TURN:
  add.u32 %r2, %r2, 1;
  setp.lt.u32 %p1, %r2, %r1;
  @%p1 bra TURN;
  ld.global.u32 %r3, [%rd1];
  add.u32 %r3, %r3, 1;
  st.global.u32 [%rd1], %r3;
  ret;
}

.visible .entry wild(.param .u64 out)
{
  .reg .b32 %r<2>; .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, 1;
  st.global.u32 [%rd1+1048576], %r1;
  ret;
}

.visible .entry shared(.param .u64 out)
{
  .reg .pred %p<2>; .reg .b32 %r<8>; .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x; mov.u32 %r2, %ntid.x;
  sub.u32 %r3, %r2, 1;
  setp.ne.u32 %p1, %r1, %r3;
  mov.u32 %r4, dynamic;
  @%p1 bra WAIT;
  st.shared.u32 [%r4], %r1;
WAIT:
  bar.sync 0;
  ld.shared.u32 %r5, [%r4];
  mul.wide.u32 %rd2, %r1, 4;
  add.s64 %rd3, %rd1, %rd2;
  st.global.u32 [%rd3], %r5;
  ret;
}

.visible .entry fixed(.param .u64 out) .maxntid 128, 1, 1
{
  .shared .align 4 .b8 table[16384];
  .reg .b32 %r<6>; .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, table;
  mov.u32 %r2, %tid.x;
  shl.b32 %r3, %r2, 2;
  add.u32 %r4, %r1, %r3;
  add.u32 %r2, %r2, 7;
  st.shared.u32 [%r4], %r2;
  ld.shared.u32 %r5, [%r4];
  mul.wide.u32 %rd2, %r3, 1;
  add.s64 %rd3, %rd1, %rd2;
  st.global.u32 [%rd3], %r5;
  ret;
}
)";

}  // namespace heed::test
