// Assigns slots to registers: constants are moved into their uses, then liveness is computed over the control-flow
// graph, and then a linear scan assigns the slots.
//
// Every lane has its own column of a slot, and a lane passes only through the paths of its own control flow. So the
// liveness of one thread is also right for a divergent warp. A write under a guard does not end a life.
#include <algorithm>
#include <queue>

#include "simulator/program.h"

namespace heed::simulator {

namespace {

bool starts(std::string_view text, std::string_view with) { return text.substr(0, with.size()) == with; }

template <class F>
void each_register(const Body& body, const Argument& a, F&& f) {
  if (a.kind == Argument::Kind::reg) {
    f(a.reg);
    if (a.second >= 0) f(a.second);
  } else if (a.kind == Argument::Kind::address && a.has_base) {
    f(a.reg);
  } else if (a.kind == Argument::Kind::vector) {
    for (int32_t i = 0; i < a.second; i++) each_register(body, body.arguments[static_cast<size_t>(a.reg + i)], f);
  }
}

template <class F>
void each_use(const Body& body, const Statement& s, F&& f) {
  if (s.guard >= 0) f(s.guard);
  const uint32_t written = destinations(s);
  for (uint32_t i = 0; i < s.count; i++) {
    const Argument& a = body.arguments[s.first + i];
    if (i >= written) {
      each_register(body, a, f);
    } else if (a.kind == Argument::Kind::address && a.has_base) {
      f(a.reg);
    }
  }
}

template <class F>
void each_definition(const Body& body, const Statement& s, F&& f) {
  for (uint32_t i = 0; i < std::min(destinations(s), s.count); i++) {
    const Argument& a = body.arguments[s.first + i];
    if (a.kind != Argument::Kind::address) each_register(body, a, f);
  }
}

// Returns true if the statement has one result that is computed lane by lane from operands of its own width. Such a
// result may overwrite an operand that dies.
bool is_lanewise(const Body& body, const Statement& s) {
  static const char* const others[] = {"shfl", "ld",   "mma", "wmma", "movmatrix",  "match", "redux",
                                       "vote", "atom", "bar", "cvt",  "activemask", "elect"};
  for (const char* opcode : others)
    if (starts(s.opcode, opcode)) return false;
  for (uint32_t i = 0; i < s.count; i++) {
    const Argument& a = body.arguments[s.first + i];
    if (a.kind == Argument::Kind::vector || (i == 0 && a.second >= 0)) return false;
  }
  return true;
}

struct Graph {
  struct Block {
    uint32_t begin, end;
    std::vector<uint32_t> successors;
  };
  std::vector<Block> blocks;
};

bool is_jump(const Statement& s) { return starts(s.opcode, "bra") || starts(s.opcode, "brx"); }
bool is_exit(const Statement& s) { return s.opcode == "ret" || s.opcode == "exit" || s.opcode == "ret.uni"; }

Graph make_graph(const Body& body) {
  const uint32_t n = static_cast<uint32_t>(body.statements.size());
  std::vector<char> leader(n + 1, 0);
  leader[0] = 1;
  const auto targets = [&](const Statement& s, auto&& f) {
    if (starts(s.opcode, "brx")) {
      const Statement& list = body.statements[static_cast<size_t>(body.arguments[s.first + 1].reg)];
      for (uint32_t i = 0; i < list.count; i++) f(static_cast<uint32_t>(body.arguments[list.first + i].reg));
    } else {
      f(static_cast<uint32_t>(body.arguments[s.first].reg));
    }
  };
  for (uint32_t i = 0; i < n; i++) {
    const Statement& s = body.statements[i];
    if (is_jump(s)) targets(s, [&](uint32_t target) { leader[target] = 1; });
    if (is_jump(s) || is_exit(s)) leader[i + 1] = 1;
  }
  Graph graph;
  std::vector<uint32_t> block_of(n + 1);
  for (uint32_t i = 0; i < n;) {
    uint32_t end = i + 1;
    while (end < n && !leader[end]) end++;
    for (uint32_t j = i; j < end; j++) block_of[j] = static_cast<uint32_t>(graph.blocks.size());
    graph.blocks.push_back({i, end, {}});
    i = end;
  }
  for (Graph::Block& block : graph.blocks) {
    const Statement& last = body.statements[block.end - 1];
    const bool falls = !(is_jump(last) || is_exit(last)) || last.guard >= 0;
    if (falls && block.end < n) block.successors.push_back(block_of[block.end]);
    if (is_jump(last)) {
      targets(last, [&](uint32_t target) {
        if (target < n) block.successors.push_back(block_of[target]);
      });
    }
  }
  return graph;
}

class BitSet {
 public:
  explicit BitSet(size_t n) : words_((n + 63) / 64) {}
  void set(size_t i) { words_[i / 64] |= uint64_t{1} << i % 64; }
  void clear(size_t i) { words_[i / 64] &= ~(uint64_t{1} << i % 64); }
  bool test(size_t i) const { return words_[i / 64] >> i % 64 & 1; }
  // Computes this |= a & ~b and returns true if the set grew.
  bool add(const BitSet& a, const BitSet* b = nullptr) {
    uint64_t grown = 0;
    for (size_t i = 0; i < words_.size(); i++) {
      const uint64_t next = words_[i] | (b ? a.words_[i] & ~b->words_[i] : a.words_[i]);
      grown |= next ^ words_[i];
      words_[i] = next;
    }
    return grown != 0;
  }
  template <class F>
  void each(F&& f) const {
    for (size_t i = 0; i < words_.size(); i++)
      for (uint64_t word = words_[i]; word; word &= word - 1) f(i * 64 + static_cast<size_t>(__builtin_ctzll(word)));
  }

 private:
  std::vector<uint64_t> words_;
};

struct Interval {
  uint32_t begin = UINT32_MAX, end = 0;
  void add(uint32_t position) {
    begin = std::min(begin, position);
    end = std::max(end, position);
  }
};

// An interval reaches from the first position at which a register is live to the last. Statement i uses at 2i and
// defines at 2i + 1.
std::vector<Interval> intervals(const Body& body) {
  const size_t registers = body.registers.size();
  const Graph graph = make_graph(body);
  const size_t blocks = graph.blocks.size();
  std::vector<BitSet> in(blocks, BitSet(registers)), out = in, killed = in;
  for (size_t b = 0; b < blocks; b++) {
    for (uint32_t i = graph.blocks[b].begin; i < graph.blocks[b].end; i++) {
      const Statement& s = body.statements[i];
      each_use(body, s, [&](int32_t r) {
        if (!killed[b].test(static_cast<size_t>(r))) in[b].set(static_cast<size_t>(r));
      });
      if (s.guard < 0) each_definition(body, s, [&](int32_t r) { killed[b].set(static_cast<size_t>(r)); });
    }
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t b = blocks; b-- > 0;) {
      for (const uint32_t successor : graph.blocks[b].successors) out[b].add(in[successor]);
      if (in[b].add(out[b], &killed[b])) changed = true;
    }
  }
  std::vector<Interval> result(registers);
  for (size_t b = 0; b < blocks; b++) {
    in[b].each([&](size_t r) { result[r].add(2 * graph.blocks[b].begin); });
    out[b].each([&](size_t r) { result[r].add(2 * graph.blocks[b].end - 1); });
  }
  for (uint32_t i = 0; i < body.statements.size(); i++) {
    const Statement& s = body.statements[i];
    const uint32_t use = is_lanewise(body, s) ? 2 * i : 2 * i + 1;
    each_use(body, s, [&](int32_t r) { result[static_cast<size_t>(r)].add(use); });
    each_definition(body, s, [&](int32_t r) { result[static_cast<size_t>(r)].add(2 * i + 1); });
  }
  return result;
}

}  // namespace

uint32_t destinations(const Statement& statement) {
  static const char* const none[] = {
      "st.",     "stmatrix",       "red.",           "bra",          "brx",      "ret",        "exit",      "cp.",
      "membar",  "fence",          "trap",           "brkpt",        "prefetch", "wmma.store", "nanosleep", "discard",
      "pmevent", ".branchtargets", "griddepcontrol", "applypriority"};
  const std::string_view o = statement.opcode;
  for (const char* opcode : none)
    if (starts(o, opcode)) return 0;
  if ((starts(o, "bar.") || starts(o, "barrier.")) && o.find(".red") == std::string_view::npos) return 0;
  if (starts(o, "mbarrier") && o.find(".test_wait") == std::string_view::npos &&
      o.find(".try_wait") == std::string_view::npos && o.find(".arrive") == std::string_view::npos)
    return 0;
  return 1;
}

void propagate_constants(Body& body) {
  std::vector<uint32_t> definitions(body.registers.size()), source(body.registers.size(), UINT32_MAX);
  for (uint32_t i = 0; i < body.statements.size(); i++) {
    const Statement& s = body.statements[i];
    each_definition(body, s, [&](int32_t r) { definitions[static_cast<size_t>(r)]++; });
    if (s.guard < 0 && starts(s.opcode, "mov.") && s.count == 2 &&
        body.arguments[s.first].kind == Argument::Kind::reg &&
        body.arguments[s.first + 1].kind == Argument::Kind::immediate)
      source[static_cast<size_t>(body.arguments[s.first].reg)] = i;
  }
  const auto constant = [&](int32_t r) {
    return body.registers[static_cast<size_t>(r)] != Type::pred && definitions[static_cast<size_t>(r)] == 1 &&
           source[static_cast<size_t>(r)] != UINT32_MAX;
  };
  const auto replace = [&](Argument& a) {
    if (a.kind != Argument::Kind::reg || a.second >= 0 || !constant(a.reg)) return;
    const Argument& value = body.arguments[body.statements[source[static_cast<size_t>(a.reg)]].first + 1];
    // A double that moves into a 32-bit register has already become a float; from here on only the bits count.
    a = value;
  };
  for (Statement& s : body.statements) {
    for (uint32_t i = destinations(s); i < s.count; i++) {
      Argument& a = body.arguments[s.first + i];
      replace(a);
      if (a.kind != Argument::Kind::vector) continue;
      for (int32_t j = 0; j < a.second; j++) replace(body.arguments[static_cast<size_t>(a.reg + j)]);
    }
  }
  // The registers must still be written if an address is based on them; those without a use are removed.
  std::vector<char> used(body.registers.size());
  for (const Statement& s : body.statements) each_use(body, s, [&](int32_t r) { used[static_cast<size_t>(r)] = 1; });
  for (size_t r = 0; r < body.registers.size(); r++)
    if (source[r] != UINT32_MAX && definitions[r] == 1 && !used[r]) {
      Statement& s = body.statements[source[r]];
      s.opcode = "nop";
      s.count = 0;
    }
}

Allocation allocate(const Body& body) {
  Allocation result;
  const std::vector<Interval> lives = intervals(body);
  result.slots.assign(body.registers.size(), no_slot);
  std::vector<uint32_t> order;
  for (uint32_t r = 0; r < body.registers.size(); r++) {
    if (body.registers[r] == Type::pred) {
      result.slots[r] = result.predicates++;
    } else if (lives[r].begin != UINT32_MAX) {
      order.push_back(r);
    }
  }
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return lives[a].begin != lives[b].begin ? lives[a].begin < lives[b].begin : a < b;
  });
  struct Ending {
    uint32_t end, slot;
    bool operator>(const Ending& other) const { return end > other.end; }
  };
  std::priority_queue<Ending, std::vector<Ending>, std::greater<>> ending[2];
  std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>> free[2];
  uint32_t count[2] = {0, 0}, live = 0;
  for (const uint32_t r : order) {
    const int wide = bytes_of(body.registers[r]) == 8;
    for (int w = 0; w < 2; w++) {
      while (!ending[w].empty() && ending[w].top().end < lives[r].begin) {
        free[w].push(ending[w].top().slot);
        live -= static_cast<uint32_t>(w + 1);
        ending[w].pop();
      }
    }
    uint32_t slot;
    if (free[wide].empty()) {
      slot = count[wide]++;
    } else {
      slot = free[wide].top();
      free[wide].pop();
    }
    result.slots[r] = slot;
    ending[wide].push({lives[r].end, slot});
    live += static_cast<uint32_t>(wide + 1);
    result.live = std::max(result.live, live);
  }
  const uint32_t wide_base = (count[0] * 128 + 255) / 256 * 256;
  for (const uint32_t r : order) {
    const bool wide = bytes_of(body.registers[r]) == 8;
    result.slots[r] = wide ? wide_base + result.slots[r] * 256 : result.slots[r] * 128;
  }
  result.file_bytes = wide_base + count[1] * 256;
  return result;
}

}  // namespace heed::simulator
