// Tokens of PTX text: words (including their dots: "ld.global.v4.f32", "%tid.x"), numbers, strings and single
// characters. Comments are skipped.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace heed::simulator {

struct PtxError : std::runtime_error {
  PtxError(uint32_t line, const std::string& what) : std::runtime_error("line " + std::to_string(line) + ": " + what) {}
};

struct Token {
  enum Kind : uint8_t { end, word, number, string, punctuation } kind = end;
  std::string_view text;
  uint32_t line = 0;

  bool is(char c) const { return kind == punctuation && text[0] == c; }
  bool is(std::string_view s) const { return kind == word && text == s; }
};

class Lexer {
 public:
  Lexer(std::string_view text, uint32_t line) : begin_(text.data()), end_(begin_ + text.size()), line_(line) {}

  const Token& peek() {
    if (!peeked_) token_ = scan();
    peeked_ = true;
    return token_;
  }
  Token next() {
    if (peeked_) {
      peeked_ = false;
      return token_;
    }
    return scan();
  }
  // Takes the next token if it is this one.
  bool accept(char c) {
    const bool found = peek().is(c);
    if (found) next();
    return found;
  }
  bool accept(std::string_view word) {
    const bool found = peek().is(word);
    if (found) next();
    return found;
  }
  void expect(char c);
  std::string_view expect_word(const char* what);
  [[noreturn]] void fail(const std::string& what);

  // Returns the rest of the line, for directives that end with it. No token may have been peeked at.
  std::string_view rest_of_line();
  // Called after a '{': returns the text up to the matching '}', which is taken too.
  std::string_view braces(uint32_t* line);
  uint32_t line() const { return line_; }

 private:
  void skip_space();
  Token scan();

  const char* begin_;
  const char* end_;
  uint32_t line_;
  Token token_;
  bool peeked_ = false;
};

// 0f3F800000 and 0d… (bits), 1.5, 0x1F, 017, 0b101, 12U.
struct Number {
  enum Kind : uint8_t { integer, f32, f64 } kind;
  uint64_t bits;
};
Number parse_number(std::string_view text, uint32_t line);

}  // namespace heed::simulator
