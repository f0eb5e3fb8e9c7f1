// Launches: checks, parameters, the pool of threads that run blocks, and environment variables.
#include "simulator/executor.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <thread>

#include "simulator/access.h"
#include "simulator/races.h"
#include "simulator/scheduler.h"
#include "simulator/variables.h"

namespace heed::simulator {

namespace {

uint64_t mix(uint64_t a, uint64_t b) { return Random(a ^ b * 0xd1342543de82ef95).next(); }

// The order of blocks: a permutation of [0, n) drawn from the seed.
class Order {
 public:
  Order(uint64_t n, uint64_t seed) : n_(n), offset_(Random(seed).next() % n) {
    Random random(seed + 1);
    do step_ = random.next() % n + 1;
    while (common_divisor(step_, n) != 1);
  }
  uint64_t operator()(uint64_t i) const {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(i) * step_ + offset_) % n_);
  }

 private:
  static uint64_t common_divisor(uint64_t a, uint64_t b) { return b == 0 ? a : common_divisor(b, a % b); }
  uint64_t n_, offset_, step_;
};

std::optional<Fault> invalid(const Launch& launch, const std::string& what) {
  return Fault{1, "kernel " + launch.kernel->name + ": " + what};  // CUDA_ERROR_INVALID_VALUE
}

// Slots of 256 bytes, each with one value in every lane.
std::vector<uint8_t> fill_constants(const Program& program) {
  std::vector<Program::Constant> values = program.constants;
  for (const Program::Relocation& r : program.relocations)
    values[r.constant].bits = reinterpret_cast<uint64_t>(r.variable->address) + r.addend;
  std::vector<uint8_t> slots(values.size() * 256);
  for (size_t i = 0; i < values.size(); i++) {
    const uint32_t narrow = static_cast<uint32_t>(values[i].bits);
    for (int lane = 0; lane < warp_size; lane++) {
      if (values[i].wide) {
        std::memcpy(&slots[i * 256 + static_cast<size_t>(lane) * 8], &values[i].bits, 8);
      } else {
        std::memcpy(&slots[i * 256 + static_cast<size_t>(lane) * 4], &narrow, 4);
      }
    }
  }
  return slots;
}

}  // namespace

Options Options::from_environment() {
  Options options;
  options.seed = variable("HEED_SIMULATOR_SEED", options.seed);
  options.threads = static_cast<int>(variable("HEED_SIMULATOR_THREADS", 0));
  options.sanitize = variable("HEED_SIMULATOR_SANITIZE", options.sanitize) != 0;
  options.count = variable("HEED_SIMULATOR_COUNT", options.count) != 0;
  options.limit = variable("HEED_SIMULATOR_LIMIT", options.limit);
  return options;
}

std::optional<Fault> run(const Launch& launch, Memory& memory, const Options& options, Counters& counters) {
  Kernel& kernel = *launch.kernel;
  std::string error;
  const Program* program = kernel.prepare(&error);
  if (!program) return Fault{error_invalid_image, error};
  if (!kernel.module->load(memory)) return Fault{2, "no memory for the module's variables"};

  LaunchState state;
  state.program = program;
  state.memory = &memory;
  state.options = options;
  uint64_t blocks = 1, threads = 1;
  for (int i = 0; i < 3; i++) {
    state.grid[i] = launch.grid[i];
    state.block[i] = launch.block[i];
    blocks *= launch.grid[i];
    threads *= launch.block[i];
  }
  if (blocks == 0 || threads == 0) return invalid(launch, "an empty grid or block");
  if (launch.grid[1] > 65535 || launch.grid[2] > 65535 || launch.grid[0] > 0x7fffffff)
    return invalid(launch, "the grid is too large");
  if (threads > std::min(kernel.max_threads, 1024u))
    return invalid(launch, "a block of " + std::to_string(threads) + " threads; at most " +
                               std::to_string(std::min(kernel.max_threads, 1024u)) + " are possible");
  state.threads = static_cast<uint32_t>(threads);
  state.warps = (state.threads + warp_size - 1) / warp_size;
  state.dynamic_bytes = launch.dynamic_shared_bytes;
  state.shared_bytes =
      launch.dynamic_shared_bytes ? program->dynamic_shared + launch.dynamic_shared_bytes : program->shared_bytes;
  if (state.shared_bytes > options.shared_limit)
    return invalid(launch, std::to_string(state.shared_bytes) + " bytes of shared memory; at most " +
                               std::to_string(options.shared_limit) + " are possible");
  state.parameters.resize(kernel.parameter_bytes);
  for (size_t i = 0; i < kernel.parameters.size(); i++)
    std::memcpy(state.parameters.data() + kernel.parameters[i].offset, launch.params[i], kernel.parameters[i].bytes);
  state.constants = fill_constants(*program);
  std::unique_ptr<Footprint> footprint;
  if (options.count) footprint = std::make_unique<Footprint>(memory);
  state.footprint = footprint.get();

  std::unique_ptr<LaunchRaces> races;
  if (options.sanitize && blocks > 1 && blocks <= LaunchRaces::most_blocks) races = LaunchRaces::of(memory);
  state.races = races.get();

  const Order order(blocks, options.seed);
  std::atomic<uint64_t> next{0};
  std::mutex mutex;
  std::optional<Fault> fault;
  uint64_t faulty = UINT64_MAX;
  KernelCounters total;
  const auto work = [&] {
    try {
      Scheduler scheduler(state);
      for (uint64_t i; !state.stop && (i = next.fetch_add(1)) < blocks;) {
        const uint64_t block = order(i);
        const uint32_t index[3] = {static_cast<uint32_t>(block % state.grid[0]),
                                   static_cast<uint32_t>(block / state.grid[0] % state.grid[1]),
                                   static_cast<uint32_t>(block / state.grid[0] / state.grid[1])};
        try {
          scheduler.run(index, mix(options.seed, block));
        } catch (const FaultError& e) {
          state.stop = true;
          std::lock_guard<std::mutex> lock(mutex);
          if (e.cuda_error && i < faulty) {
            fault = Fault{e.cuda_error, e.message};
            faulty = i;
          }
        }
      }
      std::lock_guard<std::mutex> lock(mutex);
      total.add(scheduler.counters);
    } catch (const std::exception& e) {
      state.stop = true;
      std::lock_guard<std::mutex> lock(mutex);
      if (!fault) fault = Fault{2, std::string("the simulator has no memory: ") + e.what()};
    }
  };
  int workers = options.threads > 0 ? options.threads : static_cast<int>(std::thread::hardware_concurrency());
  workers = static_cast<int>(std::min<uint64_t>(static_cast<uint64_t>(std::max(workers, 1)), blocks));
  std::vector<std::thread> pool;
  for (int t = 1; t < workers; t++) pool.emplace_back(work);
  work();
  for (std::thread& thread : pool) thread.join();

  if (options.count) {
    total.launches = 1;
    total.dynamic_shared_bytes = launch.dynamic_shared_bytes;
    total.instructions = state.instructions;
    total.unique_load_bytes = footprint->bytes(false);
    total.unique_store_bytes = footprint->bytes(true);
    counters.add(kernel.name, total);
  }
  return fault;
}

}  // namespace heed::simulator
