#include "simulator/lexer.h"

#include <cstdlib>
#include <cstring>

namespace heed::simulator {

namespace {

bool is_word_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$' || c == '%' || c == '.';
}
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_word(char c) { return is_word_start(c) || is_digit(c); }

}  // namespace

void Lexer::fail(const std::string& what) {
  const Token& token = peek();
  const std::string found = token.kind == Token::end ? "the end" : "'" + std::string(token.text) + "'";
  throw PtxError(token.line, what + ", found " + found);
}

void Lexer::expect(char c) {
  if (!accept(c)) fail(std::string("expected '") + c + "'");
}

std::string_view Lexer::expect_word(const char* what) {
  if (peek().kind != Token::word) fail(std::string("expected ") + what);
  return next().text;
}

void Lexer::skip_space() {
  while (begin_ < end_) {
    if (*begin_ == '\n') {
      line_++;
      begin_++;
    } else if (*begin_ == ' ' || *begin_ == '\t' || *begin_ == '\r' || *begin_ == '\0') {
      begin_++;
    } else if (*begin_ == '/' && begin_ + 1 < end_ && begin_[1] == '/') {
      const void* newline = std::memchr(begin_, '\n', static_cast<size_t>(end_ - begin_));
      begin_ = newline ? static_cast<const char*>(newline) : end_;
    } else if (*begin_ == '/' && begin_ + 1 < end_ && begin_[1] == '*') {
      begin_ += 2;
      while (begin_ < end_ && !(begin_[0] == '*' && begin_ + 1 < end_ && begin_[1] == '/')) {
        line_ += *begin_ == '\n';
        begin_++;
      }
      begin_ = begin_ < end_ ? begin_ + 2 : end_;
    } else {
      return;
    }
  }
}

Token Lexer::scan() {
  skip_space();
  Token token;
  token.line = line_;
  if (begin_ >= end_) return token;
  const char* start = begin_;
  if (is_word_start(*begin_)) {
    token.kind = Token::word;
    while (begin_ < end_) {
      if (is_word(*begin_)) {
        begin_++;
      } else if (*begin_ == ':' && begin_ + 1 < end_ && begin_[1] == ':') {
        begin_ += 2;
      } else {
        break;
      }
    }
  } else if (is_digit(*begin_)) {
    token.kind = Token::number;
    while (begin_ < end_ && (is_digit(*begin_) || (*begin_ >= 'a' && *begin_ <= 'z') ||
                             (*begin_ >= 'A' && *begin_ <= 'Z') || *begin_ == '.')) {
      begin_++;
    }
  } else if (*begin_ == '"') {
    token.kind = Token::string;
    begin_++;
    while (begin_ < end_ && *begin_ != '"' && *begin_ != '\n') begin_++;
    token.text = std::string_view(start + 1, static_cast<size_t>(begin_ - start - 1));
    if (begin_ < end_) begin_++;
    return token;
  } else {
    token.kind = Token::punctuation;
    begin_++;
  }
  token.text = std::string_view(start, static_cast<size_t>(begin_ - start));
  return token;
}

std::string_view Lexer::rest_of_line() {
  const void* newline = std::memchr(begin_, '\n', static_cast<size_t>(end_ - begin_));
  const char* stop = newline ? static_cast<const char*>(newline) : end_;
  const std::string_view rest(begin_, static_cast<size_t>(stop - begin_));
  begin_ = stop;
  return rest;
}

std::string_view Lexer::braces(uint32_t* line) {
  if (line) *line = line_;
  const char* start = begin_;
  int depth = 1;
  while (begin_ < end_) {
    const char c = *begin_;
    if (c == '\n') {
      line_++;
    } else if (c == '/' && begin_ + 1 < end_ && (begin_[1] == '/' || begin_[1] == '*')) {
      skip_space();
      continue;
    } else if (c == '"') {
      const char* close = begin_ + 1;
      while (close < end_ && *close != '"' && *close != '\n') close++;
      begin_ = close;
      if (begin_ < end_ && *begin_ == '\n') continue;
    } else if (c == '{') {
      depth++;
    } else if (c == '}' && --depth == 0) {
      begin_++;
      return std::string_view(start, static_cast<size_t>(begin_ - 1 - start));
    }
    begin_++;
  }
  throw PtxError(line_, "expected '}', found the end");
}

Number parse_number(std::string_view text, uint32_t line) {
  const std::string s(text);
  if (s.size() == 10 && s[0] == '0' && (s[1] == 'f' || s[1] == 'F'))
    return {Number::f32, std::strtoull(s.c_str() + 2, nullptr, 16)};
  if (s.size() == 18 && s[0] == '0' && (s[1] == 'd' || s[1] == 'D'))
    return {Number::f64, std::strtoull(s.c_str() + 2, nullptr, 16)};
  char* stop = nullptr;
  if (s.find('.') != std::string::npos) {
    const double value = std::strtod(s.c_str(), &stop);
    if (*stop) throw PtxError(line, "not a number: " + s);
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return {Number::f64, bits};
  }
  const bool binary = s.size() > 2 && s[0] == '0' && (s[1] == 'b' || s[1] == 'B');
  const uint64_t value = binary ? std::strtoull(s.c_str() + 2, &stop, 2) : std::strtoull(s.c_str(), &stop, 0);
  if (*stop == 'U') stop++;
  if (*stop) throw PtxError(line, "not a number: " + s);
  return {Number::integer, value};
}

}  // namespace heed::simulator
