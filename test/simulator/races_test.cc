// Tests races between blocks in global memory: planted races, each beside a twin in which blocks are ordered. The
// report must name both blocks and both lines.
#include "device.h"

namespace heed::test {
namespace {

// Blocks of two warps. %r1: the thread's number, %r2: the block's, %r3: their number, one after the other. %rd1:
// shared[], %rd2: shared[thread], %rd3: own[], %rd4: own[thread of the grid], %rd5: a counter that is zero.
const char* const prologue = R"(
  .reg .pred %p<8>; .reg .b16 %h<4>; .reg .b32 %r<32>; .reg .b64 %rd<32>;
  .shared .align 4 .b8 last[4];
  mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r9, %ntid.x; mad.lo.u32 %r3, %r2, %r9, %r1;
  mul.wide.u32 %rd20, %r1, 4; mul.wide.u32 %rd21, %r3, 4;
  ld.param.u64 %rd1, [shared]; add.s64 %rd2, %rd1, %rd20;
  ld.param.u64 %rd3, [own]; add.s64 %rd4, %rd3, %rd21;
  ld.param.u64 %rd5, [counter];
)";

constexpr uint32_t threads = 64, blocks = 5;

std::string run(const std::string& body, uint64_t seed, uint32_t grid = blocks) {
  Device device(kernel(".param .u64 shared, .param .u64 own, .param .u64 counter", prologue + body + "\n ret;"));
  device.options.seed = seed;
  device.options.threads = static_cast<int>(grid);  // some blocks wait for others
  uint32_t* shared = device.upload(std::vector<uint32_t>(threads, 7));
  uint32_t* own = device.upload(std::vector<uint32_t>(size_t{threads} * grid, 7));
  uint32_t* counter = device.upload(std::vector<uint32_t>(4, 0));
  return device.run("k", grid, threads, shared, own, counter);
}

int count(const std::string& text, const std::string& part) {
  int n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) n++;
  return n;
}

// `$` in the body stands for the part that makes the difference. Both lines are named: each is one of `lines`, as in
// PTX.
void expect_race(std::string body, const std::string& wrong, const std::string& right, const std::string& message,
                 const std::vector<std::string>& lines) {
  const size_t at = body.find('$');
  std::string racing = body;
  racing.replace(at, 1, wrong);
  body.replace(at, 1, right);
  for (uint64_t seed = 1; seed <= 8; seed++) {
    const std::string fault = run(racing, seed);
    const int named = count(fault, ": " + lines[0]) + (lines[1] == lines[0] ? 0 : count(fault, ": " + lines[1]));
    if (fault.find("race in global memory at 0x") == std::string::npos || fault.find(message) == std::string::npos ||
        count(fault, "block (") != 2 || count(fault, "PTX line ") != 2 || named != 2 ||
        fault.find("of an allocation of ") == std::string::npos)
      report("seed %d: expected '%s', got '%s', of%s", static_cast<int>(seed), message.c_str(), fault.c_str(),
             racing.c_str());
    const std::string none = run(body, seed);
    if (!none.empty())
      report("seed %d: expected no fault, got '%s', of%s", static_cast<int>(seed), none.c_str(), body.c_str());
  }
}

// The pattern of cuda/kernels/last_block.h: every block writes its part; the last block to arrive reads all of them.
std::string last_block(const std::string& before, const std::string& after) {
  return "st.global.u32 [%rd4], %r1;\n" + before + R"(
    bar.sync 0;
    setp.ne.u32 %p1, %r1, 0; @%p1 bra JOIN;
    atom.global.inc.u32 %r5, [%rd5], 4; setp.eq.u32 %p2, %r5, 4; selp.u32 %r6, 1, 0, %p2;
    st.shared.u32 [last], %r6;
    JOIN: bar.sync 0;
    ld.shared.u32 %r6, [last]; setp.eq.u32 %p3, %r6, 0; @%p3 bra OUT;
    )" + after +
         R"(
    ld.global.cg.u32 %r7, [%rd2];
    add.s64 %rd6, %rd3, %rd20;
    ld.global.cg.u32 %r7, [%rd6]; ld.global.cg.u32 %r7, [%rd6+256]; ld.global.cg.u32 %r7, [%rd6+512];
    ld.global.cg.u32 %r7, [%rd6+768]; ld.global.cg.u32 %r7, [%rd6+1024];
    OUT:)";
}

}  // namespace

TEST(races_of_writes_of_two_blocks) {
  expect_race("st.global.u32 [$], %r1;", "%rd2", "%rd4", "this write and a write by block",
              {"st.global.u32", "st.global.u32"});
  expect_race("st.u32 [$], %r1;", "%rd2", "%rd4", "this write and a write by block", {"st.u32", "st.u32"});
}

TEST(races_of_a_read_and_a_write_of_two_blocks) {
  expect_race("ld.global.u32 %r5, [%rd2]; setp.eq.u32 %p1, %r2, 3;\n @%p1 st.global.u32 [$], %r1;", "%rd2", "%rd4",
              " by block", {"st.global.u32", "ld.global.u32"});
}

TEST(races_know_bytes) {
  // Two blocks write half of the same word each.
  expect_race("cvt.u16.u32 %h1, %r1; mul.wide.u32 %rd7, %r2, $; add.s64 %rd8, %rd1, %rd7;\n st.global.u16 [%rd8], %h1;",
              "0", "2", "this write and a write by block", {"st.global.u16", "st.global.u16"});
}

TEST(races_without_a_fence) {
  const auto all = [](const std::string& difference) { return last_block(difference, "membar.gl;"); };
  expect_race(all("$"), "", "membar.gl;", "this read and a write by block", {"ld.global.cg.u32", "st.global.u32"});
  // A fence of the block alone is not enough.
  expect_race(all("$"), "membar.cta;", "fence.acq_rel.gpu;", "this read and a write by block",
              {"ld.global.cg.u32", "st.global.u32"});
  // A warp's fence covers what the warp knows: here it knows nothing of the other warp.
  expect_race(all("setp.lt.u32 %p4, %r1, $; @%p4 membar.gl;"), "32", "64", "this read and a write by block",
              {"ld.global.cg.u32", "st.global.u32"});
  // The reader needs a fence too.
  expect_race(last_block("membar.gl;", "$"), "", "membar.gl;", "this read and a write by block",
              {"ld.global.cg.u32", "st.global.u32"});
}

TEST(races_ordered_by_the_thread_behind_the_barrier) {
  // Through the barrier the thread knows what its block has written, so its fence alone covers all of it.
  std::string body = last_block("", "membar.gl;");
  const std::string atomic = "atom.global.inc.u32";
  body.insert(body.find(atomic), "membar.gl; ");
  for (uint64_t seed = 1; seed <= 8; seed++) EXPECT_OK(run(body, seed));
  // .release and .acquire do the same.
  body = last_block("", "");
  body.replace(body.find(atomic), atomic.size(), "atom.global.acq_rel.gpu.inc.u32");
  for (uint64_t seed = 1; seed <= 8; seed++) EXPECT_OK(run(body, seed));
}

TEST(races_without_an_atomic_operation) {
  // Block 0 writes and then signals; the others wait for it.
  const std::string hand_over = R"(
    setp.ne.u32 %p1, %r2, 0; @%p1 bra WAIT;
    st.global.u32 [%rd2], %r1; membar.gl; bar.sync 0;
    setp.eq.u32 %p2, %r1, 0;
    @%p2 st.global.$.u32 [%rd5], 1;
    bra OUT;
    WAIT:
    ld.global.$.u32 %r5, [%rd5]; setp.eq.u32 %p3, %r5, 0; @%p3 bra WAIT;
    membar.gl;
    ld.global.u32 %r6, [%rd2];
    OUT:)";
  const auto with = [&](const std::string& modifier) {
    std::string body = hand_over;
    for (size_t at; (at = body.find('$')) != std::string::npos;) body.replace(at, 1, modifier);
    return body;
  };
  for (uint64_t seed = 1; seed <= 8; seed++) {
    EXPECT_OK(run(with("volatile"), seed, 2));
    EXPECT_OK(run(with("relaxed.gpu"), seed, 2));
    const std::string fault = run(with("relaxed.cta"), seed, 2);
    if (fault.find("race in global memory") == std::string::npos) report("expected a race, got '%s'", fault.c_str());
  }
}

TEST(races_of_an_atomic_operation_and_a_write) {
  expect_race("$;", "setp.eq.u32 %p1, %r2, 2;\n @%p1 st.global.u32 [%rd2], %r1;\n @!%p1 red.global.add.u32 [%rd2], 1",
              "red.global.add.u32 [%rd2], 1", " by block", {"st.global.u32", "red.global.add.u32"});
}

TEST(races_hand_what_was_acquired_on) {
  // Block b waits for block b - 1, so that the last one knows of the first.
  const std::string chain = R"(
    setp.eq.u32 %p1, %r2, 0; @%p1 bra GO;
    WAIT: ld.global.relaxed.gpu.u32 %r5, [%rd5]; setp.lt.u32 %p2, %r5, %r2; @%p2 bra WAIT;
    membar.gl;
    GO: st.global.u32 [%rd2], %r1;
    membar.gl; bar.sync 0;
    setp.eq.u32 %p3, %r1, 0; @%p3 red.global.add.u32 [%rd5], 1;)";
  for (uint64_t seed = 1; seed <= 8; seed++) EXPECT_OK(run(chain, seed));
}

TEST(races_of_two_launches_are_none) {
  Device device(kernel(".param .u64 shared, .param .u64 own, .param .u64 counter",
                       std::string(prologue) + "setp.eq.u32 %p1, %r2, 1; @%p1 st.global.u32 [%rd2], %r1;\n ret;"));
  uint32_t* shared = device.upload(std::vector<uint32_t>(threads, 7));
  // More launches than there are numbers for them.
  for (int i = 0; i < 600; i++) {
    device.options.seed = static_cast<uint64_t>(i);
    EXPECT_OK(device.run("k", 2, threads, shared, shared, shared));
  }
}

}  // namespace heed::test
