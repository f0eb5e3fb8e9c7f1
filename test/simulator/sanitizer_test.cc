// Tests the sanitizer with planted faults, each in a kernel whose twin differs from it only by the fault. The faulty
// kernel is reported with its name, thread and line, in every order of warps; the twin runs.
#include <algorithm>

#include "device.h"

namespace heed::test {
namespace {

// %r1: the thread's number. %rd1: out[thread], never written. %rd4: in, 1024 bytes; %rd5: in[thread]. %rd6: 6 bytes.
// %rd7: memory that has been freed. %r2: tile, 256 bytes of shared memory; %r3: tile[thread]; %r4: tile[thread % 32].
const char* const prologue = R"(
  .reg .pred %p<8>; .reg .b32 %r<32>; .reg .b64 %rd<32>;
  .shared .align 16 .b8 tile[256];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd20, %r1, 4;
  ld.param.u64 %rd2, [out]; add.s64 %rd1, %rd2, %rd20;
  ld.param.u64 %rd4, [in]; add.s64 %rd5, %rd4, %rd20;
  ld.param.u64 %rd6, [odd];
  ld.param.u64 %rd7, [freed];
  mov.u32 %r2, tile; shl.b32 %r20, %r1, 2; add.u32 %r3, %r2, %r20;
  and.b32 %r21, %r1, 31; shl.b32 %r22, %r21, 2; add.u32 %r4, %r2, %r22;
)";

// Copies 16 bytes for each of 32 threads. %rd8: the source; %r5: the destination, which 8 threads share.
const char* const copy_addresses =
    "mul.wide.u32 %rd9, %r1, 16; add.s64 %rd8, %rd4, %rd9;\n"
    "shl.b32 %r6, %r1, 4; add.u32 %r5, %r2, %r6;\n";

struct Planted {
  std::string body;  // `$` stands for the difference; lines where the fault may be reported end in `// here`
  std::string wrong, right;
  uint32_t block;
  std::vector<uint32_t> threads;  // threads that may be reported: the order of warps decides which
  std::string message;
};

std::string ptx_of(const Planted& planted, const std::string& difference) {
  std::string body = planted.body;
  body.replace(body.find('$'), 1, difference);
  return kernel(".param .u64 out, .param .u64 in, .param .u64 odd, .param .u64 freed", prologue + body + "\n ret;");
}

std::string run(const std::string& ptx, uint32_t block, uint64_t seed, bool sanitize = true) {
  Device device(ptx);
  device.options.seed = seed;
  device.options.sanitize = sanitize;
  uint32_t* out = device.allocate<uint32_t>(256);
  uint32_t* in = device.upload(std::vector<uint32_t>(256, 7));
  uint8_t* odd = device.upload(std::vector<uint8_t>(6, 1));
  uint8_t* freed = device.upload(std::vector<uint8_t>(64, 1));
  EXPECT(device.memory.free(freed));
  return device.run("k", 1, block, out, in, odd, freed);
}

bool names_place(const std::string& fault, const std::string& ptx, const std::vector<uint32_t>& threads) {
  const std::string mark = "// here";
  for (size_t at = ptx.find(mark); at != std::string::npos; at = ptx.find(mark, at + 1)) {
    const auto line = 1 + std::count(ptx.begin(), ptx.begin() + static_cast<std::ptrdiff_t>(at), '\n');
    for (const uint32_t thread : threads) {
      const std::string place = "kernel k, block (0, 0, 0), thread (" + std::to_string(thread) + ", 0, 0), PTX line " +
                                std::to_string(line) + ":";
      if (fault.find(place) == 0) return true;
    }
  }
  return false;
}

void expect_found(const Planted& planted) {
  const std::string wrong = ptx_of(planted, planted.wrong), right = ptx_of(planted, planted.right);
  for (uint64_t seed = 1; seed <= 8; seed++) {
    const std::string fault = run(wrong, planted.block, seed);
    if (fault.find(planted.message) == std::string::npos || !names_place(fault, wrong, planted.threads))
      report("seed %d: expected '%s' at the marked line, got '%s', of%s", static_cast<int>(seed),
             planted.message.c_str(), fault.c_str(), planted.body.c_str());
    const std::string none = run(right, planted.block, seed);
    if (!none.empty())
      report("seed %d: expected no fault with '%s', got '%s'", static_cast<int>(seed), planted.right.c_str(),
             none.c_str());
  }
}

}  // namespace

// ---- global memory

TEST(sanitizer_global_past_the_end) {
  expect_found({"ld.global.u32 %r5, [%rd4+$]; // here",
                "1024",
                "1020",
                32,
                {0},
                "0 bytes past the end of an allocation of 1024 bytes"});
  expect_found({"st.global.u32 [%rd1+$], %r1; // here", "904", "896", 32, {30}, "write of 4 bytes of global memory"});
  // Ends are exact to the byte.
  expect_found({"ld.global.$ %r5, [%rd6+4]; // here",
                "u32",
                "u16",
                32,
                {0},
                "0 bytes past the end of an allocation of 6 bytes"});
}

TEST(sanitizer_global_before_the_start) {
  expect_found(
      {"ld.global.u32 %r5, [%rd4+$]; // here", "-4", "0", 32, {0}, "4 bytes before an allocation of 1024 bytes"});
}

TEST(sanitizer_global_freed) {
  expect_found({"ld.global.u8 %r5, [$+3]; // here",
                "%rd7",
                "%rd6",
                32,
                {0},
                "use after free: byte 3 of an allocation of 64 bytes that has been freed"});
}

TEST(sanitizer_global_null) {
  expect_found({"mov.u64 %rd8, 0;\n ld.global.u32 %r5, [$]; // here", "%rd8", "%rd4", 32, {0}, "null pointer"});
}

TEST(sanitizer_global_through_a_generic_address) {
  expect_found({"ld.u32 %r5, [%rd4+$]; // here", "1024", "1020", 32, {0}, "past the end of an allocation"});
}

TEST(sanitizer_global_misaligned) {
  expect_found({"ld.global.u32 %r5, [%rd5+$]; // here", "2", "4", 32, {0}, "misaligned access of 4 bytes"});
  expect_found({"ld.global.v4.u32 {%r5, %r6, %r7, %r8}, [%rd4+$]; // here",
                "8",
                "16",
                32,
                {0},
                "misaligned access of 16 bytes"});
}

TEST(sanitizer_global_never_written) {
  expect_found({"ld.global.u32 %r5, [$]; // here",
                "%rd1",
                "%rd5",
                32,
                {0},
                "byte 0 of an allocation of 1024 bytes has never been written"});
  expect_found({"setp.lt.u32 %p1, %r1, $; @%p1 st.global.u32 [%rd1], %r1;\n ld.global.u32 %r5, [%rd1]; // here",
                "31",
                "32",
                32,
                {31},
                "byte 124 of an allocation of 1024 bytes has never been written"});
  expect_found({"atom.global.add.u32 %r5, [$], 1; // here", "%rd1", "%rd5", 32, {0}, "has never been written"});
}

// ---- shared and local memory

TEST(sanitizer_shared_out_of_bounds) {
  expect_found({"st.shared.u32 [%r3+$], %r1; // here", "132", "128", 32, {31}, "the block has 256 bytes of it"});
  expect_found({"st.shared.u32 [%r3+$], %r1; // here", "-4", "0", 32, {0}, "the block has 256 bytes of it"});
  expect_found({"cvta.shared.u64 %rd8, tile;\n st.u8 [%rd8+$], %r1; // here",
                "256",
                "255",
                1,
                {0},
                "the block has 256 bytes of it"});
}

TEST(sanitizer_shared_misaligned) {
  expect_found({"st.shared.u32 [%r3+$], %r1; // here", "2", "4", 32, {0}, "misaligned access of 4 bytes"});
}

TEST(sanitizer_shared_never_written) {
  expect_found({"setp.lt.u32 %p1, %r1, $; @%p1 st.shared.u32 [%r3], %r1;\n ld.shared.u32 %r5, [%r3]; // here",
                "31",
                "32",
                32,
                {31},
                "read of shared memory at byte 124, which has never been written"});
}

TEST(sanitizer_local_out_of_bounds) {
  expect_found({".local .align 4 .b8 depot[16];\n st.local.u32 [depot+$], %r1; // here",
                "16",
                "12",
                32,
                {0},
                "the thread has 16 bytes of it"});
}

// ---- races

TEST(sanitizer_race_of_writes_of_two_warps) {
  expect_found({"st.shared.u32 [$], %r1; // here", "%r4", "%r3", 64, {0, 32}, "this write and a write by thread"});
}

TEST(sanitizer_race_of_a_read_and_a_write_of_two_warps) {
  expect_found({R"(
    st.shared.u32 [%r3], %r1; bar.sync 0; xor.b32 %r5, %r3, 128;
    ld.shared.u32 %r6, [%r5]; // here
    $
    st.shared.u32 [%r3], %r6; // here)",
                "",
                "bar.sync 0;",
                64,
                {0, 32},
                "have no barrier between them"});
}

TEST(sanitizer_race_beside_a_named_barrier) {
  // Warp 0 hands tile[0…31] over to warp 1, but not what it writes after it has arrived.
  expect_found({R"(
    setp.lt.u32 %p1, %r1, 32; @%p1 st.shared.u32 [%r4], %r1; bar.sync 0;
    @!%p1 bra READ;
    $
    bra OUT;
    READ: bar.sync 3, 64;
    ld.shared.u32 %r6, [%r4]; // here
    OUT:)",
                "bar.arrive 3, 64;\n st.shared.u32 [%r4], %r1; // here",
                "st.shared.u32 [%r4], %r1; bar.arrive 3, 64;",
                64,
                {0, 32},
                "have no barrier between them"});
}

TEST(sanitizer_race_of_lanes) {
  const std::string body = "st.shared.u32 [%r3], %r1; xor.b32 %r5, %r3, 4;\n $\n ld.shared.u32 %r6, [%r5]; // here";
  const std::string message = "this read and a write by thread (1, 0, 0) have no barrier between them";
  expect_found({body, "", "bar.warp.sync -1;", 32, {0}, message});
  // A shuffle does not order accesses.
  expect_found({body, "shfl.sync.bfly.b32 %r7, %r1, 1, 31, -1;", "bar.sync 0;", 32, {0}, message});
}

TEST(sanitizer_race_of_a_write_after_a_read_of_lanes) {
  expect_found({R"(
    st.shared.u32 [%r3], %r1; bar.sync 0; xor.b32 %r5, %r3, 4; ld.shared.u32 %r6, [%r5];
    $
    st.shared.u32 [%r3], %r6; // here)",
                "",
                "bar.warp.sync -1;",
                32,
                {0},
                "this write and a read by thread (1, 0, 0) have no barrier between them"});
}

TEST(sanitizer_race_within_an_instruction) {
  expect_found({"shr.u32 %r5, %r1, $; shl.b32 %r5, %r5, 2; add.u32 %r5, %r2, %r5;\n st.shared.u32 [%r5], %r1; // here",
                "1",
                "0",
                32,
                {1},
                "this write and a write by thread (0, 0, 0)"});
  // Neighbouring bytes do not race.
  expect_found({"mul.lo.u32 %r5, %r1, $; add.u32 %r5, %r2, %r5;\n st.shared.u8 [%r5], %r1; // here",
                "0",
                "1",
                64,
                {1, 33},
                "this write and a write by thread"});
}

TEST(sanitizer_race_without_an_atomic_operation) {
  expect_found({"setp.eq.u32 %p1, %r1, 0; @%p1 st.shared.u32 [%r2], %r1; bar.sync 0;\n $",
                R"(
    ld.shared.u32 %r5, [%r2]; add.u32 %r5, %r5, 1;
    st.shared.u32 [%r2], %r5; // here)",
                "red.shared.add.u32 [%r2], 1;",
                32,
                {0},
                "this write and a read by thread"});
}

TEST(sanitizer_off_reports_no_race) {
  const Planted race{"st.shared.u32 [$], %r1;", "%r4", "%r3", 64, {}, ""};
  EXPECT_OK(run(ptx_of(race, race.wrong), 64, 1, false));
}

// ---- cp.async

TEST(sanitizer_copy_read_before_the_wait) {
  const std::string copy = std::string(copy_addresses) + "shr.u32 %r7, %r1, 4; setp.eq.u32 %p1, %r7, 0;\n" +
                           "@%p1 cp.async.cg.shared.global [%r5], [%rd8], 16;\n";
  const std::string read = "\n@%p1 ld.shared.u32 %r8, [%r5]; // here";
  const std::string message = "read of shared memory at byte 0, where a cp.async is under way";
  expect_found({copy + "cp.async.commit_group; cp.async.wait_group $;" + read, "1", "0", 32, {0}, message});
  // Waiting for groups does not wait for copies that are in no group.
  expect_found({copy + "$ cp.async.wait_group 0;" + read, "", "cp.async.commit_group;", 32, {0}, message});
}

TEST(sanitizer_copy_overwritten_before_the_wait) {
  expect_found({std::string(copy_addresses) + R"(
    cp.async.cg.shared.global [%r5], [%rd8], 16; cp.async.commit_group;
    $
    st.shared.u32 [%r5], %r1; // here
    cp.async.wait_group 0;)",
                "",
                "cp.async.wait_group 0;",
                16,
                {0},
                "write of shared memory at byte 0, where a cp.async is under way"});
}

TEST(sanitizer_copy_read_by_another_thread_after_the_wait) {
  expect_found({std::string(copy_addresses) + R"(
    cp.async.cg.shared.global [%r5], [%rd8], 16; cp.async.wait_all;
    $
    xor.b32 %r6, %r5, 16; ld.shared.u32 %r8, [%r6]; // here)",
                "",
                "bar.sync 0;",
                16,
                {0},
                "this read and a write by thread (1, 0, 0) have no barrier between them"});
}

TEST(sanitizer_copy_ends) {
  const std::string copy = "cp.async.cg.shared.global [%r5], [%rd8+$], 16; // here";
  expect_found({copy_addresses + copy, "8", "16", 16, {0}, "misaligned source of a copy of 16 bytes"});
  // The alignment is also checked if nothing is read.
  expect_found(
      {std::string(copy_addresses) + "mov.u32 %r7, 0;\n cp.async.cg.shared.global [%r5], [%rd8+$], 16, %r7; // here",
       "4",
       "1040",
       16,
       {0},
       "misaligned source of a copy of 16 bytes, 0 of them read"});
  expect_found({copy_addresses + copy, "784", "768", 16, {15}, "0 bytes past the end of an allocation of 1024 bytes"});
  expect_found({std::string(copy_addresses) + "cp.async.cg.shared.global [%r5+$], [%rd8], 16; // here",
                "16",
                "0",
                16,
                {15},
                "the block has 256 bytes of it"});
  expect_found(
      {std::string(copy_addresses) + "mov.u32 %r7, $;\n cp.async.cg.shared.global [%r5], [%rd8], 16, %r7; // here",
       "17",
       "16",
       16,
       {0},
       "source size 17 is larger than the copy"});
}

// ---- barriers

TEST(sanitizer_barrier_that_threads_miss) {
  const std::string body = "setp.lt.u32 %p1, %r1, $; @!%p1 bra OUT;\n bar.sync 0; // here\n OUT:";
  expect_found({body, "16", "32", 32, {0}, "barrier 0 has 16 of 32 threads and no other can come"});
  expect_found({body, "32", "64", 64, {0}, "barrier 0 has 32 of 64 threads and no other can come"});
}

TEST(sanitizer_barrier_in_divergent_code) {
  expect_found({R"(
    setp.lt.u32 %p1, %r1, $; @!%p1 bra OTHER;
    bar.sync 0; // here
    bra OUT;
    OTHER:
    bar.sync 0; // here
    OUT:)",
                "16",
                "32",
                32,
                {0, 16},
                "deadlock: waits for other threads of its warp"});
}

TEST(sanitizer_barrier_counts) {
  expect_found(
      {"bar.sync 1, $; // here", "48", "64", 64, {0, 32}, "a barrier of 48 threads; expected a multiple of 32"});
  expect_found({"setp.lt.u32 %p1, %r1, 32; selp.u32 %r5, $, 64, %p1;\n bar.sync 1, %r5; // here",
                "96",
                "64",
                64,
                {0, 32},
                "barrier divergence: barrier 1 is for"});
}

TEST(sanitizer_barrier_numbers) {
  expect_found({"mov.u32 %r5, $;\n bar.sync %r5; // here", "16", "15", 32, {0}, "there is no barrier 16"});
  expect_found(
      {"and.b32 %r5, %r1, $;\n bar.sync %r5; // here", "1", "0", 32, {1}, "threads of a warp name different barriers"});
}

// ---- warps

TEST(sanitizer_mask_without_its_caller) {
  const std::string message = "the thread is not in the member mask 0xfffffffe";
  for (const char* instruction : {"shfl.sync.bfly.b32 %r5, %r1, 1, 31, ", "redux.sync.add.s32 %r5, %r1, ",
                                  "match.any.sync.b32 %r5, %r1, ", "vote.sync.ballot.b32 %r5, %p1, ", "bar.warp.sync "})
    expect_found({"setp.eq.u32 %p1, %r1, 0;\n" + std::string(instruction) + "$; // here",
                  "0xfffffffe",
                  "0xffffffff",
                  32,
                  {0},
                  message});
}

TEST(sanitizer_mask_of_lanes_that_are_elsewhere) {
  expect_found({R"(
    setp.lt.u32 %p1, %r1, 16; @!%p1 bra OUT;
    shfl.sync.bfly.b32 %r5, %r1, 1, 31, $; // here
    OUT:
    bar.warp.sync -1; // here)",
                "0xffffffff",
                "0x0000ffff",
                32,
                {0, 16},
                "deadlock: waits for other threads of its warp"});
}

TEST(sanitizer_masks_of_parts_of_a_warp) {
  expect_found({R"(
    setp.lt.u32 %p1, %r1, 16; selp.b32 %r6, 0x0000ffff, $, %p1;
    shfl.sync.bfly.b32 %r5, %r1, 1, 31, %r6; // here
    bar.warp.sync -1; // here)",
                "0xffffffff",
                "0xffff0000",
                32,
                {0, 16},
                "deadlock: waits for other threads of its warp"});
}

TEST(sanitizer_matrix_instruction_without_the_whole_warp) {
  expect_found({R"(
    st.shared.u32 [%r3], %r1; bar.sync 0; and.b32 %r5, %r1, 7; shl.b32 %r5, %r5, 4; add.u32 %r5, %r2, %r5;
    setp.lt.u32 %p1, %r1, $; @!%p1 bra OUT;
    ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r6}, [%r5]; // here
    OUT:)",
                "16",
                "32",
                32,
                {0},
                "needs all 32 threads of the warp, has 16"});
}

}  // namespace heed::test
