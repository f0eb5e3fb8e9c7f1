// vprintf and __assertfail: functions that device code calls and the host executes.
#include <cstdio>
#include <cstring>
#include <mutex>

#include "simulator/access.h"
#include "simulator/handlers.h"

namespace heed::simulator {

namespace {

// Returns a value from the lane's local memory.
template <class T>
T local_value(const Warp& warp, int lane, uint32_t offset) {
  T value;
  std::memcpy(&value, warp.local + static_cast<size_t>(lane) * warp.block->launch->program->local_bytes + offset,
              sizeof value);
  return value;
}

const uint8_t* byte_at(const Warp& warp, int lane, uint64_t address, uint32_t bytes) {
  Warp one = warp;
  one.mask = 1u << lane;
  uint64_t addresses[warp_size] = {};
  uint8_t* pointers[warp_size] = {};
  addresses[lane] = address;
  resolve(one, Space::generic, addresses, bytes, Access::read, strong_access, pointers);
  return pointers[lane];
}

std::string text_at(const Warp& warp, int lane, uint64_t address) {
  std::string text;
  if (address == 0) return "(null)";
  for (char c; (c = static_cast<char>(*byte_at(warp, lane, address++, 1))) != 0;) text += c;
  return text;
}

// Formats as CUDA's printf does: 32-bit integers take 4 bytes of the buffer, other integers and doubles 8, each aligned
// to its size.
std::string formatted(const Warp& warp, int lane, const std::string& format, uint64_t values) {
  std::string out;
  uint64_t offset = 0;
  const auto take = [&](uint32_t bytes) {
    offset = (offset + bytes - 1) / bytes * bytes;
    uint64_t bits = 0;
    std::memcpy(&bits, byte_at(warp, lane, values + offset, bytes), bytes);
    offset += bytes;
    return bits;
  };
  for (size_t i = 0; i < format.size(); i++) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    std::string spec = "%";
    bool wide = false;
    for (i++; i < format.size() && !std::strchr("diouxXcsfFeEgGaAp%", format[i]); i++) {
      if (format[i] == 'l' || format[i] == 'j' || format[i] == 'z' || format[i] == 't') {
        wide = true;
      } else if (format[i] == '*') {
        spec += std::to_string(static_cast<int32_t>(take(4)));
      } else if (format[i] != 'h') {
        spec += format[i];
      }
    }
    const char c = i < format.size() ? format[i] : '%';
    char buffer[512];
    if (c == '%') {
      out += '%';
      continue;
    } else if (c == 's') {
      std::snprintf(buffer, sizeof buffer, (spec + "s").c_str(), text_at(warp, lane, take(8)).c_str());
    } else if (std::strchr("fFeEgGaA", c)) {
      const uint64_t bits = take(8);
      double value;
      std::memcpy(&value, &bits, 8);
      std::snprintf(buffer, sizeof buffer, (spec + c).c_str(), value);
    } else if (c == 'p') {
      std::snprintf(buffer, sizeof buffer, "0x%llx", static_cast<unsigned long long>(take(8)));
    } else if (c == 'c') {
      std::snprintf(buffer, sizeof buffer, (spec + "c").c_str(), static_cast<int>(take(4)));
    } else if (wide) {
      std::snprintf(buffer, sizeof buffer, (spec + "ll" + c).c_str(), static_cast<long long>(take(8)));
    } else if (c == 'd' || c == 'i') {
      std::snprintf(buffer, sizeof buffer, (spec + c).c_str(), static_cast<int>(take(4)));
    } else {
      std::snprintf(buffer, sizeof buffer, (spec + c).c_str(), static_cast<unsigned>(take(4)));
    }
    out += buffer;
  }
  return out;
}

const std::vector<uint32_t>& list(const Warp& warp, const Instruction& in) {
  return warp.block->launch->program->lists[in.e];
}

}  // namespace

void print(Warp& warp, const Instruction& in) {
  static std::mutex mutex;
  const std::vector<uint32_t>& parameters = list(warp, in);
  for (uint32_t m = warp.mask; m; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    const std::string format = text_at(warp, lane, local_value<uint64_t>(warp, lane, parameters[1]));
    const std::string text = formatted(warp, lane, format, local_value<uint64_t>(warp, lane, parameters[2]));
    const int32_t count = static_cast<int32_t>(text.size());
    std::memcpy(warp.local + static_cast<size_t>(lane) * warp.block->launch->program->local_bytes + parameters[0],
                &count, sizeof count);
    std::lock_guard<std::mutex> lock(mutex);
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
  }
}

void assert_fail(Warp& warp, const Instruction& in) {
  const std::vector<uint32_t>& parameters = list(warp, in);
  const int lane = __builtin_ctz(warp.mask);
  const auto text = [&](int i) {
    return text_at(warp, lane, local_value<uint64_t>(warp, lane, parameters[static_cast<size_t>(i)]));
  };
  fail(warp, lane, error_assert,
       "assertion failed: " + text(0) + ", " + text(1) + ":" +
           std::to_string(local_value<uint32_t>(warp, lane, parameters[2])) + ", in " + text(3));
}

}  // namespace heed::simulator
