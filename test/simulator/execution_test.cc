// Tests control flow, exchanges, barriers, atomics and memory: hand-written PTX with results that follow from the
// manual.
#include <numeric>

#include "device.h"
#include "simulator/warp.h"

namespace heed::test {
namespace {

std::vector<uint32_t> iota(size_t n) {
  std::vector<uint32_t> v(n);
  std::iota(v.begin(), v.end(), 0u);
  return v;
}

// out[tid] = value; %r1 is the thread's number, and %rd1 the address of out[tid].
const char* const prologue = R"(
  .reg .pred %p<16>; .reg .b16 %rs<16>; .reg .b32 %r<64>; .reg .f32 %f<32>; .reg .b64 %rd<32>;
  ld.param.u64 %rd2, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r50, %ctaid.x; mov.u32 %r51, %ntid.x;
  mad.lo.u32 %r52, %r50, %r51, %r1;
  mul.wide.u32 %rd3, %r52, 4;
  add.s64 %rd1, %rd2, %rd3;
)";

std::vector<uint32_t> results(const std::string& body, uint32_t block, uint32_t grid = 1) {
  Device device(kernel(".param .u64 out", prologue + body + "\n st.global.u32 [%rd1], %r0;\n ret;"));
  uint32_t* out = device.allocate<uint32_t>(grid * block);
  EXPECT_OK(device.run("k", grid, block, out));
  return device.error ? std::vector<uint32_t>(grid * block) : device.download(out, grid * block);
}

}  // namespace

TEST(execution_integer_arithmetic) {
  const auto got = results(R"(
    mul.lo.u32 %r2, %r1, 7; add.u32 %r3, %r2, -3; shl.b32 %r4, %r3, 2; xor.b32 %r0, %r4, 0x55;)",
                           64);
  for (uint32_t i = 0; i < 64; i++) EXPECT(got[i] == (((i * 7 - 3) << 2) ^ 0x55));
}

TEST(execution_nested_divergence) {
  const auto got = results(R"(
    and.b32 %r2, %r1, 1; setp.eq.u32 %p1, %r2, 0; mov.u32 %r0, 0;
    @%p1 bra EVEN;
      and.b32 %r3, %r1, 2; setp.eq.u32 %p2, %r3, 0;
      @%p2 bra ODD_LOW;
      mov.u32 %r0, 3; bra JOIN;
    ODD_LOW: mov.u32 %r0, 1; bra JOIN;
    EVEN:
      setp.lt.u32 %p3, %r1, 16;
      @!%p3 add.u32 %r0, %r0, 100;
      @%p3 add.u32 %r0, %r0, 200;
    JOIN: add.u32 %r0, %r0, 1000;)",
                           32);
  for (uint32_t i = 0; i < 32; i++) EXPECT(got[i] == 1000 + (i % 2 ? (i & 2 ? 3u : 1u) : i < 16 ? 200u : 100u));
}

TEST(execution_loops_of_different_length) {
  const auto got = results(R"(
    mov.u32 %r0, 0; mov.u32 %r2, 0;
    LOOP: setp.ge.u32 %p1, %r2, %r1; @%p1 bra DONE;
      add.u32 %r0, %r0, %r2; add.u32 %r2, %r2, 1; bra LOOP;
    DONE:)",
                           70);
  for (uint32_t i = 0; i < 70; i++) EXPECT(got[i] == (i ? i * (i - 1) / 2 : 0));
}

TEST(execution_shuffle_reconverges_lanes) {
  // Lanes arrive at the shuffle from loops of different lengths.
  const auto got = results(R"(
    mov.u32 %r2, 0;
    LOOP: setp.ge.u32 %p1, %r2, %r1; @%p1 bra DONE; add.u32 %r2, %r2, 1; bra LOOP;
    DONE: shfl.sync.bfly.b32 %r0|%p2, %r2, 5, 31, -1;)",
                           32);
  for (uint32_t i = 0; i < 32; i++) EXPECT(got[i] == (i ^ 5));
}

TEST(execution_shuffle_of_half_a_warp) {
  const auto got = results(R"(
    mov.u32 %r0, 77; setp.lt.u32 %p1, %r1, 16; @!%p1 bra OUT;
    shfl.sync.down.b32 %r0, %r1, 8, 31, 0xffff;
    OUT:)",
                           32);
  for (uint32_t i = 0; i < 8; i++) EXPECT(got[i] == i + 8);
  for (uint32_t i = 8; i < 16; i++) EXPECT(got[i] == simulator::undefined_value);  // of lanes outside the mask
  for (uint32_t i = 16; i < 32; i++) EXPECT(got[i] == 77);
}

TEST(execution_votes) {
  const auto got = results(R"(
    setp.gt.u32 %p1, %r1, 29; vote.sync.ballot.b32 %r2, %p1, -1; vote.sync.any.pred %p2, %p1, -1;
    selp.u32 %r3, 1, 0, %p2; add.u32 %r0, %r2, %r3;)",
                           32);
  for (uint32_t i = 0; i < 32; i++) EXPECT(got[i] == 0xc0000001);
}

TEST(execution_barrier_and_shared_memory) {
  const auto got = results(R"(
    .shared .align 4 .b8 tile[1024];
    mov.u32 %r2, tile; shl.b32 %r3, %r1, 2; add.u32 %r4, %r2, %r3; mul.lo.u32 %r5, %r1, 3;
    st.shared.u32 [%r4], %r5;
    bar.sync 0;
    sub.u32 %r6, 255, %r1; shl.b32 %r7, %r6, 2; add.u32 %r8, %r2, %r7; ld.shared.u32 %r0, [%r8];)",
                           256, 3);
  for (uint32_t i = 0; i < 768; i++) EXPECT(got[i] == 3 * (255 - i % 256));
}

TEST(execution_named_barriers_hand_over_a_buffer) {
  // Warp 0 writes and arrives; warp 1 waits and reads.
  const auto got = results(R"(
    .shared .align 4 .b8 tile[128];
    mov.u32 %r0, 0; and.b32 %r2, %r1, 31; shl.b32 %r3, %r2, 2; mov.u32 %r4, tile; add.u32 %r4, %r4, %r3;
    setp.lt.u32 %p1, %r1, 32; @!%p1 bra READ;
    add.u32 %r5, %r1, 500; st.shared.u32 [%r4], %r5; bar.arrive 3, 64; bra OUT;
    READ: bar.sync 3, 64; ld.shared.u32 %r0, [%r4];
    OUT:)",
                           64);
  for (uint32_t i = 0; i < 32; i++) EXPECT(got[32 + i] == 500 + i);
}

TEST(execution_barrier_reduction) {
  const auto got = results(R"(
    setp.lt.u32 %p1, %r1, 37; bar.red.popc.u32 %r0, 0, %p1;
    bar.red.and.pred %p2, 0, %p1; selp.u32 %r2, 1000, 0, %p2; add.u32 %r0, %r0, %r2;
    bar.red.or.pred %p3, 0, %p1; selp.u32 %r2, 10000, 0, %p3; add.u32 %r0, %r0, %r2;)",
                           96);
  for (uint32_t i = 0; i < 96; i++) EXPECT(got[i] == 10037);
}

TEST(execution_atomics_across_blocks) {
  Device device(kernel(".param .u64 out", std::string(prologue) + R"(
    red.global.add.u32 [%rd2], 1; atom.global.max.s32 %r2, [%rd2+4], %r52;
    atom.global.cas.b32 %r3, [%rd2+8], 0, %r50; atom.global.add.f32 %f1, [%rd2+12], 0f3F000000; ret;)"));
  uint32_t* out = device.upload(std::vector<uint32_t>{0, 0, 0, 0});
  EXPECT_OK(device.run("k", 40, 96, out));
  const auto got = device.download(out, 4);
  EXPECT(got[0] == 40 * 96);
  EXPECT(got[1] == 40 * 96 - 1);
  float sum;
  std::memcpy(&sum, &got[3], 4);
  EXPECT(sum == 20 * 96);
}

TEST(execution_local_memory_and_calls) {
  const std::string function = R"(.func (.param .b32 result) twice(.param .b32 value) {
    .reg .b32 %r<4>; ld.param.b32 %r1, [value]; setp_free: add.u32 %r2, %r1, %r1; st.param.b32 [result], %r2; ret; })";
  Device device(kernel(".param .u64 out", std::string(prologue) + R"(
    .local .align 8 .b8 depot[16]; mov.u64 %rd5, depot; cvta.local.u64 %rd6, %rd5;
    st.u32 [%rd6+4], %r1; ld.local.u32 %r2, [depot+4];
    { .param .b32 p0; st.param.b32 [p0], %r2; .param .b32 r0; call.uni (r0), twice, (p0); ld.param.b32 %r0, [r0]; }
    st.global.u32 [%rd1], %r0; ret;)",
                       function));
  uint32_t* out = device.allocate<uint32_t>(64);
  EXPECT_OK(device.run("k", 1, 64, out));
  const auto got = device.download(out, 64);
  for (uint32_t i = 0; i < 64; i++) EXPECT(got[i] == 2 * i);
}

TEST(execution_asynchronous_copies_arrive_at_the_wait) {
  const std::string body = R"(
    .shared .align 16 .b8 tile[512];
    ld.param.u64 %rd4, [in]; mul.wide.u32 %rd5, %r1, 16; add.s64 %rd6, %rd4, %rd5;
    mov.u32 %r2, tile; shl.b32 %r3, %r1, 4; add.u32 %r4, %r2, %r3;
    cp.async.cg.shared.global [%r4], [%rd6], 16; cp.async.commit_group;
    cp.async.wait_group 0; bar.sync 0;
    xor.b32 %r5, %r4, 16; ld.shared.u32 %r0, [%r5+8]; st.global.u32 [%rd1], %r0; ret;)";
  Device device(kernel(".param .u64 out, .param .u64 in", prologue + body));
  uint32_t* out = device.allocate<uint32_t>(32);
  uint32_t* in = device.upload(iota(128));
  EXPECT_OK(device.run("k", 1, 32, out, in));
  const auto got = device.download(out, 32);
  for (uint32_t i = 0; i < 32; i++) EXPECT(got[i] == 4 * (i ^ 1) + 2);
}

TEST(execution_asynchronous_copy_without_wait) {
  const std::string body = R"(
    .shared .align 16 .b8 tile[512];
    ld.param.u64 %rd4, [in]; mul.wide.u32 %rd5, %r1, 16; add.s64 %rd6, %rd4, %rd5;
    mov.u32 %r2, tile; shl.b32 %r3, %r1, 4; add.u32 %r4, %r2, %r3;
    cp.async.cg.shared.global [%r4], [%rd6], 16; cp.async.commit_group;
    cp.async.wait_group 1; ld.shared.u32 %r0, [%r4+8]; st.global.u32 [%rd1], %r0; ret;)";
  Device device(kernel(".param .u64 out, .param .u64 in", prologue + body));
  uint32_t* out = device.allocate<uint32_t>(32);
  uint32_t* in = device.upload(iota(128));
  EXPECT_FAULT(device.run("k", 1, 32, out, in), "cp.async is under way");
}

TEST(execution_conversions_in_wider_registers) {
  const auto got = results(R"(
    sub.u32 %r2, %r1, 100; cvt.u64.u32 %rd5, %r2; cvt.s64.s32 %rd6, %rd5; shr.s64 %rd7, %rd6, 40; cvt.u32.u64 %r3, %rd7;
    cvt.s8.s32 %rd8, %r2; cvt.u32.u64 %r4, %rd8; add.u32 %r0, %r3, %r4;)",
                           32);
  for (uint32_t i = 0; i < 32; i++) EXPECT(got[i] == ~0u + static_cast<uint32_t>(static_cast<int8_t>(i - 100)));
}

TEST(execution_unknown_instruction_is_named) {
  Device device(kernel(".param .u64 out", std::string(prologue) + "frobnicate.u32 %r1, %r2; ret;"));
  uint32_t* out = device.allocate<uint32_t>(32);
  EXPECT_FAULT(device.run("k", 1, 32, out), "frobnicate.u32: unknown instruction");
}

}  // namespace heed::test
