// Grammars in Lark's language (https://lark-parser.readthedocs.io/en/stable/grammar.html), whose first rule is `start`: what
// OpenAI's custom tools use. Priorities, aliases and the marks that shape a tree change no text, and are left out.
import { describe, HeedError } from "../util/errors.js";
import type { Steps } from "../util/turns.js";
import { checkedExpression } from "./analysis.js";
import { oneOfCharacters } from "./characters.js";
import { choiceOf, empty, type Expression, literal, optionalPart, repeat, rule, type Rule, sequenceOf } from "./expression.js"; // prettier-ignore
import { regularExpression } from "./regular-expression.js";
import { isPauseDue, spend } from "./work.js";

/** Terminals of Lark's library `common`, as regular expressions. */
const common: Readonly<Record<string, string>> = {
  ...{ DIGIT: "[0-9]", HEXDIGIT: "[0-9a-fA-F]", INT: "[0-9]+", SIGNED_INT: "[+-]?[0-9]+" },
  ...{ DECIMAL: "[0-9]+\\.[0-9]*|\\.[0-9]+", LCASE_LETTER: "[a-z]", UCASE_LETTER: "[A-Z]", LETTER: "[A-Za-z]" },
  FLOAT: "[0-9]+[eE][+-]?[0-9]+|(?:[0-9]+\\.[0-9]*|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?",
  SIGNED_FLOAT: "[+-]?(?:[0-9]+[eE][+-]?[0-9]+|(?:[0-9]+\\.[0-9]*|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?)",
  NUMBER: "(?:[0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?",
  SIGNED_NUMBER: "[+-]?(?:[0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?",
  ...{ WORD: "[A-Za-z]+", CNAME: "[_A-Za-z][_A-Za-z0-9]*", ESCAPED_STRING: '"(?:[^"\\\\\\n]|\\\\[^\\n])*"' },
  ...{ WS_INLINE: "[ \\t]+", WS: "[ \\t\\f\\r\\n]+", CR: "\\r", LF: "\\n", NEWLINE: "(?:\\r?\\n)+" },
  ...{ SH_COMMENT: "#[^\\n]*", CPP_COMMENT: "//[^\\n]*" },
};

/** Most texts between two terminals that are ignored, so that a model does not write them for ever. */
const mostIgnored = 8;

type Kind = "string" | "regex" | "name" | "sign" | "directive" | "line";

interface Token {
  readonly kind: Kind;
  readonly text: string;
  /** Number of the line. */
  readonly line: number;
}

const tokens: readonly (readonly [Kind | null, RegExp])[] = [
  [null, /^(?:[ \t\r\f]+|\\\n|\/\/[^\n]*|#[^\n]*)/],
  ["line", /^\n/],
  ["string", /^"(?:[^"\\\n]|\\[^\n])*"i?/],
  ["regex", /^\/(?!\/)(?:[^/\\\n]|\\[^\n])+\/[imslux]*/],
  ["directive", /^%[a-z]+/],
  ["name", /^[!?]*_*[a-zA-Z][a-zA-Z0-9_]*/],
  ["sign", /^(?:->|\.\.|[:|()[\]?*+~.,{}0-9-])/],
];

function fault(line: number, text: string): HeedError {
  return new HeedError("ERR_ARGUMENT", `grammar, line ${line}: ${text}`);
}

function tokensOf(source: string): Token[] {
  const found: Token[] = [];
  let line = 1;
  for (let at = 0; at < source.length;) {
    const rest = source.slice(at, at + 10_000);
    const match = tokens.map(([kind, form]) => ({ kind, text: form.exec(rest)?.[0] })).find(({ text }) => text);
    if (!match) throw fault(line, `expected Lark's language, got ${describe(rest.slice(0, 20))}`);
    if (match.kind) found.push({ kind: match.kind, text: match.text!, line });
    line += match.text!.split("\n").length - 1;
    at += match.text!.length;
  }
  return [...found, { kind: "line", text: "\n", line }];
}

/**
 * Returns the texts of a grammar in Lark's language.
 *
 * @throws ERR_ARGUMENT if the grammar is invalid, or has a part that heed does not know; the message names the line.
 */
export function* larkExpression(source: string): Steps<Expression> {
  return yield* checkedExpression(yield* new Lark(source).read(), "grammar");
}

class Lark {
  readonly #tokens: Token[];
  #at = 0;
  /** Number of brackets that are open. */
  #depth = 0;
  readonly #rules = new Map<string, Rule>();
  readonly #defined = new Set<string>();
  readonly #ignored: Expression[] = [];
  /** Texts that are ignored between terminals. */
  readonly #gap = rule("ignored texts", empty);
  /** True within a terminal, in which nothing is ignored. */
  #inTerminal = false;

  constructor(source: string) {
    this.#tokens = tokensOf(source);
  }

  *read(): Steps<Expression> {
    while (this.#at < this.#tokens.length) {
      spend(1);
      if (isPauseDue()) yield;
      const token = this.#take();
      if (token.kind === "line") continue;
      if (token.kind === "directive") yield* this.#directive(token);
      else if (token.kind === "name") yield* this.#definition(token);
      else throw fault(token.line, `expected a rule or a directive, got ${describe(token.text)}`);
    }
    const missing = [...this.#rules.keys()].find((name) => !this.#defined.has(name));
    if (missing !== undefined) throw fault(1, `expected a definition of ${missing}, got none`);
    if (!this.#defined.has("start")) throw fault(1, "expected a rule start, got none");
    if (this.#ignored.length > 0) this.#gap.body = repeat(choiceOf(this.#ignored), 0, mostIgnored);
    return sequenceOf([this.#gap, this.#ruleOf("start")]);
  }

  #take(): Token {
    return this.#tokens[this.#at++] ?? { kind: "line", text: "", line: 0 };
  }

  #next(): Token {
    return this.#tokens[this.#at] ?? { kind: "line", text: "", line: 0 };
  }

  #takes(text: string): boolean {
    if (this.#next().text !== text) return false;
    this.#at++;
    return true;
  }

  #expect(text: string): void {
    const token = this.#take();
    if (token.text !== text) throw fault(token.line, `expected ${describe(text)}, got ${describe(token.text)}`);
  }

  #ruleOf(name: string): Rule {
    const found = this.#rules.get(name) ?? rule(name, empty);
    this.#rules.set(name, found);
    return found;
  }

  *#define(name: string, body: Steps<Expression>, { line }: Token): Steps<void> {
    if (this.#defined.has(name)) throw fault(line, `expected one definition of ${name}, got another`);
    this.#defined.add(name);
    this.#ruleOf(name).body = yield* body;
  }

  *#directive({ text, line }: Token): Steps<void> {
    if (text === "%ignore") {
      this.#inTerminal = true;
      this.#ignored.push(yield* this.#options());
      this.#inTerminal = false;
      return;
    }
    if (text !== "%import") throw fault(line, `expected %import or %ignore, got ${describe(text)}`);
    const library = this.#take();
    if (library.text !== "common") throw fault(line, `expected an import of common, got ${describe(library.text)}`);
    const names: [Token, Token][] = [];
    if (this.#takes(".")) {
      const name = this.#take();
      names.push([name, this.#takes("->") ? this.#take() : name]);
    } else {
      this.#expect("(");
      while (!this.#takes(")")) {
        const name = this.#take();
        names.push([name, name]);
        this.#takes(",");
        if (name.kind === "line") throw fault(line, "expected a closing bracket, got the end of the line");
      }
    }
    for (const [name, own] of names) {
      const pattern = Object.hasOwn(common, name.text) ? common[name.text] : undefined;
      if (pattern === undefined) throw fault(line, `expected a terminal of common, got ${describe(name.text)}`);
      yield* this.#define(own.text, this.#pattern(pattern, line), name);
    }
  }

  *#definition(token: Token): Steps<void> {
    const name = nameOf(token.text);
    if (this.#takes(".")) while (/^[-0-9]$/.test(this.#next().text)) this.#at++;
    if (this.#next().text === "{") throw fault(token.line, "expected rules without parameters, got one with them");
    this.#expect(":");
    this.#inTerminal = isTerminal(name);
    yield* this.#define(name, this.#options(), token);
    this.#inTerminal = false;
  }

  /** Reads options, which may go on in the next line. */
  *#options(): Steps<Expression> {
    const options: Expression[] = [];
    do options.push(yield* this.#items());
    while (this.#takesOption());
    return choiceOf(options);
  }

  #takesOption(): boolean {
    let at = this.#at;
    while (this.#tokens[at]?.kind === "line") at++;
    if (this.#tokens[at]?.text !== "|") return false;
    this.#at = at + 1;
    return true;
  }

  *#items(): Steps<Expression> {
    const items: Expression[] = [];
    for (;;) {
      spend(1);
      if (isPauseDue()) yield;
      const { kind, text } = this.#next();
      if (text === "->") {
        this.#at += 2;
        continue;
      }
      // Within brackets, lines go on.
      if (kind === "line" && this.#depth > 0) {
        this.#at++;
        continue;
      }
      if (kind === "line" || text === "|" || text === ")" || text === "]") return sequenceOf(items);
      items.push(this.#repeated(yield* this.#atom()));
    }
  }

  *#atom(): Steps<Expression> {
    const token = this.#take();
    const { kind, text, line } = token;
    if (text === "(" || text === "[") {
      this.#depth++;
      const inner = yield* this.#options();
      while (this.#next().kind === "line" && this.#at < this.#tokens.length) this.#at++;
      this.#expect(text === "(" ? ")" : "]");
      this.#depth--;
      return text === "(" ? inner : optionalPart(inner);
    }
    if (kind === "name") {
      const name = nameOf(text);
      return isTerminal(name) ? this.#spaced(this.#ruleOf(name)) : this.#ruleOf(name);
    }
    if (kind === "regex") {
      const [, pattern, flags] = /^\/([^]*)\/([a-z]*)$/.exec(text)!;
      if (/[^su]/.test(flags!)) throw fault(line, `expected a regular expression without flags, got ${describe(text)}`);
      return this.#spaced(yield* this.#pattern(flags!.includes("s") ? withAnyDots(pattern!) : pattern!, line));
    }
    if (kind !== "string") throw fault(line, `expected a part of a rule, got ${describe(text)}`);
    const own = this.#text(token);
    if (!this.#takes("..")) return this.#spaced(text.endsWith("i") ? anyCase(own) : literal(own));
    const last = this.#text(this.#take());
    const [low, high] = [own.codePointAt(0), last.codePointAt(0)];
    if (low === undefined || high === undefined || low > high) throw fault(line, "expected a range of two characters");
    return this.#spaced(yield* oneOfCharacters([[low, high]]));
  }

  /** Returns a terminal of a rule with what is ignored after it. */
  #spaced(terminal: Expression): Expression {
    return this.#inTerminal ? terminal : sequenceOf([terminal, this.#gap]);
  }

  #repeated(item: Expression): Expression {
    const { text, line } = this.#next();
    if (text === "?" || text === "*" || text === "+") {
      this.#at++;
      return repeat(item, text === "+" ? 1 : 0, text === "?" ? 1 : Infinity);
    }
    if (text !== "~") return item;
    this.#at++;
    const least = this.#number();
    const most = this.#takes("..") ? this.#number() : least;
    if (Number.isNaN(least) || Number.isNaN(most) || most < least || most > 10_000)
      throw fault(line, "expected ~ with one or two numbers of repetitions up to 10,000");
    return repeat(item, least, most);
  }

  #number(): number {
    let digits = "";
    while (/^[0-9]$/.test(this.#next().text)) digits += this.#take().text;
    return digits === "" ? NaN : Number(digits);
  }

  #text({ kind, text, line }: Token): string {
    if (kind !== "string") throw fault(line, `expected a string, got ${describe(text)}`);
    try {
      // Python has more escapes than JSON.
      const json = text
        .replace(/i$/, "")
        .replaceAll(/\\(?:x([0-9a-fA-F]{2})|([^]))/g, (escape, code?: string, one?: string) =>
          code !== undefined ? `\\u00${code}` : '"\\/bfnrtu'.includes(one!) ? escape : `\\${escape}`,
        );
      return JSON.parse(json) as string;
    } catch {
      throw fault(line, `expected a string, got ${describe(text)}`);
    }
  }

  *#pattern(source: string, line: number): Steps<Expression> {
    const what = `grammar, line ${line}`;
    return yield* regularExpression(source.replaceAll("\\/", "/"), { character: oneOfCharacters, what });
  }
}

/** Returns a regular expression whose dots match line ends as well. Those of escapes and sets are no such dots. */
function withAnyDots(pattern: string): string {
  return pattern.replaceAll(/\\[^]|\[(?:\\[^]|[^\]\\])*\]|\./g, (part) => (part === "." ? "[^]" : part));
}

function nameOf(text: string): string {
  return text.replace(/^[!?]+/, "");
}

/** Returns true if a name is one of a terminal: rules have lower case. */
function isTerminal(name: string): boolean {
  return /^_*[A-Z]/.test(name);
}

function anyCase(text: string): Expression {
  return sequenceOf(
    Array.from(text, (one) => choiceOf([...new Set([one.toLowerCase(), one.toUpperCase()])].map(literal))),
  );
}
