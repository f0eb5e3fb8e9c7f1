// Splits a template into tokens: the text between tags, and the parts of tags. White space beside a tag is removed as
// Jinja2 does: "-" removes all of it; trimBlocks removes the line end behind a block, and lstripBlocks the white space
// between the beginning of a line and a block.
import { normalInt, TemplateError } from "./values.js";

export type TokenType = "text" | "name" | "string" | "integer" | "float" | "operator" | "begin" | "end" | "eof";

/** A token. The value of a tag's "begin" and "end" is "{{" or "{%". */
export interface Token {
  readonly type: TokenType;
  readonly value: string;
  readonly number?: number | bigint;
  readonly line: number;
}

export interface LexerOptions {
  readonly trimBlocks: boolean;
  readonly lstripBlocks: boolean;
  readonly keepTrailingNewline: boolean;
}

/** The characters for which Python's str.isspace() is true. */
export const space = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const trailingSpaces = (text: string): string => {
  let end = text.length;
  while (end > 0 && isSpace(text[end - 1]!)) end--;
  return text.slice(0, end);
};
const oneSpace = new RegExp(`[${space}]`);
export const isSpace = (character: string): boolean => oneSpace.test(character);

const rule = (source: string): RegExp => new RegExp(source, "suy");
const tagBegin = /\{(?:%|\{|#)/g;
const rawBegin = rule(`\\{%([-+]?)[${space}]*raw[${space}]*(?:-%\\}[${space}]*|%\\})`);
const rawEnd = new RegExp(`\\{%([-+]?)[${space}]*endraw[${space}]*(\\+%\\}|-%\\}[${space}]*|%\\})`, "gu");
const spaces = rule(`[${space}]+`);
const float = rule("(?:\\d+_)*\\d+(?:(?:\\.(?:\\d+_)*\\d+)?[eE][+-]?(?:\\d+_)*\\d+|\\.(?:\\d+_)*\\d+)");
const integer = rule("0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0[xX](?:_?[\\da-fA-F])+|[1-9](?:_?\\d)*|0(?:_?0)*");
const name = rule("[\\p{L}\\p{N}\\p{M}\\p{Pc}]+");
const identifier = /^[\p{ID_Start}_][\p{ID_Continue}]*$/u;
const quotes = rule("'(?:[^'\\\\]|\\\\.)*'|\"(?:[^\"\\\\]|\\\\.)*\"");
const operator = rule("==|!=|<=|>=|//|\\*\\*|[-+*/%~[\\](){}<>=.,:|;]");
const closings: Readonly<Record<string, string>> = { "(": ")", "[": "]", "{": "}" };

/**
 * Returns the tokens of a template; the last one is "eof".
 *
 * @throws TemplateError if a tag is not closed or contains a character that no token begins with.
 */
export function tokenize(template: string, options: LexerOptions): Token[] {
  let source = template.replaceAll(/\r\n?/g, "\n");
  if (!options.keepTrailingNewline && source.endsWith("\n")) source = source.slice(0, -1);
  const tokens: Token[] = [];
  let [line, counted] = [1, 0];
  const lineAt = (position: number): number => {
    for (; counted < position; counted++) if (source[counted] === "\n") line++;
    return line;
  };
  const fail = (message: string, position: number): never => {
    throw new TemplateError(`${message} in line ${lineAt(position)}`);
  };
  /** Adds the text before a tag that has the given sign, "-", "+" or none. */
  const addText = (from: number, to: number, sign: string, variable: boolean, atLineStart: boolean): void => {
    let text = source.slice(from, to);
    if (sign === "-") text = trailingSpaces(text);
    else if (sign !== "+" && options.lstripBlocks && !variable) {
      const lineStart = text.lastIndexOf("\n") + 1;
      if ((lineStart > 0 || atLineStart) && trailingSpaces(text).length <= lineStart) text = text.slice(0, lineStart);
    }
    if (text) tokens.push({ type: "text", value: text, line: lineAt(from) });
  };
  /** Returns the position behind the end of a block or a comment, and the line end or white space after it. */
  const afterEnd = (end: number, sign: string): number => {
    if (sign === "-") return skipSpaces(source, end);
    return sign !== "+" && options.trimBlocks && source[end] === "\n" ? end + 1 : end;
  };
  let at = 0;
  let atLineStart = true;
  while (at < source.length) {
    tagBegin.lastIndex = at;
    const tag = tagBegin.exec(source);
    if (!tag) {
      tokens.push({ type: "text", value: source.slice(at), line: lineAt(at) });
      break;
    }
    const begin = tag.index;
    const raw = matchAt(rawBegin, source, begin);
    if (raw) {
      addText(at, begin, raw[1]!, false, atLineStart);
      const from = begin + raw[0].length;
      rawEnd.lastIndex = from;
      const end = rawEnd.exec(source) ?? fail("expected {% endraw %} for the {% raw %}", begin);
      addText(from, end.index, end[1]!, false, raw[0].endsWith("\n"));
      const behind = end.index + end[0].length;
      at = end[2] === "%}" ? afterEnd(behind, "") : behind;
      atLineStart = source[at - 1] === "\n";
      continue;
    }
    const sign = /[-+]/.test(source[begin + 2] ?? "") ? source[begin + 2]! : "";
    addText(at, begin, sign, tag[0] === "{{", atLineStart);
    at = begin + 2 + sign.length;
    if (tag[0] === "{#") {
      const end = source.indexOf("#}", at);
      if (end < 0) fail("expected #} for the {#", begin);
      const mark = end > at && /[-+]/.test(source[end - 1]!) ? source[end - 1]! : "";
      at = afterEnd(end + 2, mark);
    } else {
      tokens.push({ type: "begin", value: tag[0], line: lineAt(begin) });
      at = tokenizeTag(tag[0], begin);
    }
    atLineStart = source[at - 1] === "\n";
  }
  tokens.push({ type: "eof", value: "end of the template", line: lineAt(source.length) });
  return tokens;

  /** Adds the tokens of a tag and its end, and returns the position behind it. */
  function tokenizeTag(opening: string, begin: number): number {
    const ending = opening === "{{" ? "}}" : "%}";
    const open: string[] = [];
    while (at < source.length) {
      if (open.length === 0) {
        const sign = source[at] === "-" || (source[at] === "+" && ending === "%}") ? source[at]! : "";
        if (source.startsWith(ending, at + sign.length)) {
          tokens.push({ type: "end", value: opening, line: lineAt(at) });
          const end = at + sign.length + 2;
          return sign === "-" || ending === "%}" ? afterEnd(end, sign) : end;
        }
      }
      const blank = matchAt(spaces, source, at);
      if (blank) {
        at += blank[0].length;
        continue;
      }
      const token = tokenAt(at) ?? fail(`unexpected character ${JSON.stringify(source[at])}`, at);
      if (token.type === "operator") {
        const { value } = token;
        if (closings[value] !== undefined) open.push(closings[value]);
        else if (/^[)\]}]$/.test(value) && open.pop() !== value) fail(`unexpected ${value}`, at);
      }
      at += token.length;
      tokens.push(token);
    }
    return fail(`expected ${ending} for the ${opening}`, begin);
  }

  function tokenAt(position: number): (Token & { length: number }) | null {
    const found = (type: TokenType, [text]: RegExpExecArray, value = text, number?: number | bigint) => ({
      ...{ type, value, length: text.length, line: lineAt(position) },
      ...(number !== undefined && { number }),
    }) as Token & { length: number }; // prettier-ignore
    let match = source[position - 1] === "." ? null : matchAt(float, source, position);
    if (match) return found("float", match, match[0], Number(match[0].replaceAll("_", "")));
    match = matchAt(integer, source, position);
    if (match) return found("integer", match, match[0], normalInt(BigInt(match[0].replaceAll("_", ""))));
    match = matchAt(name, source, position);
    if (match) {
      if (!identifier.test(match[0])) fail(`unexpected name ${match[0]}`, position);
      return found("name", match);
    }
    match = matchAt(quotes, source, position);
    if (match) return found("string", match, unescape(match[0].slice(1, -1)));
    match = matchAt(operator, source, position);
    return match && found("operator", match);
  }
}

function matchAt(pattern: RegExp, source: string, position: number): RegExpExecArray | null {
  pattern.lastIndex = position;
  return pattern.exec(source);
}

function skipSpaces(source: string, position: number): number {
  let end = position;
  while (end < source.length && isSpace(source[end]!)) end++;
  return end;
}

const letters: Readonly<Record<string, string>> = {
  ...{ a: "\x07", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v", "\\": "\\", "'": "'", '"': '"', "\n": "" },
};

/** Replaces the escapes of a text as Python's codec "unicode-escape" does. */
function unescape(text: string): string {
  return text.replaceAll(
    /\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([0-7]{1,3})|([^]))/g,
    (whole, x?: string, u?: string, long?: string, octal?: string, letter?: string) => {
      if (octal !== undefined) return String.fromCodePoint(Number.parseInt(octal, 8));
      const hex = x ?? u ?? long;
      if (hex === undefined && /[xuUN]/.test(letter!)) throw new TemplateError(`expected a whole escape, got ${whole}`);
      if (hex === undefined) return letters[letter!] ?? whole;
      const code = Number.parseInt(hex, 16);
      if (code > 0x10ffff) throw new TemplateError(`expected a character of Unicode, got ${whole}`);
      return String.fromCodePoint(code);
    },
  );
}
