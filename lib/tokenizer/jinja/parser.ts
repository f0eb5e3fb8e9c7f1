// Parses the statements of a template. The grammar is Jinja2's, with the loop controls `break` and `continue` and the
// blocks {% generation %} that transformers adds; a template that loads others has no meaning here and is refused.
import { maxDepth } from "./bounds.js";
import { ExpressionParser } from "./expression-parser.js";
import type { LexerOptions } from "./lexer.js";
import { tokenize } from "./lexer.js";
import type { Expression, MacroBody, Statement, Target } from "./nodes.js";
import { TemplateError } from "./values.js";

/**
 * Parses a template.
 *
 * @throws TemplateError if it is not one.
 */
export function parseTemplate(source: string, options: LexerOptions): Statement[] {
  return new Parser(tokenize(source, options)).parse();
}

class Parser extends ExpressionParser {
  /** Number of loops around a statement in the same macro. */
  #loops = 0;

  parse(): Statement[] {
    const body = this.#body([]);
    if (this.token.type !== "eof") this.fail(`expected no ${this.token.value}`);
    return body;
  }

  /** Parses statements up to a tag with one of these names, which becomes the current token, or the end. */
  #body(ends: readonly string[]): Statement[] {
    if (++this.depth > maxDepth) throw new TemplateError(`expected blocks nested at most ${maxDepth} deep`);
    const body: Statement[] = [];
    for (;;) {
      const token = this.token;
      if (token.type === "text") {
        this.next();
        body.push({ type: "text", text: token.value });
      } else if (token.type === "begin" && token.value === "{{") {
        this.next();
        body.push({ type: "print", value: this.tuple() });
        this.expectEnd();
      } else if (token.type === "begin") {
        this.next();
        if (ends.some((name) => this.isName(name))) break;
        body.push(...this.#statement());
        this.expectEnd();
      } else break;
    }
    this.depth--;
    return body;
  }

  /** Parses the body of a block up to one of these tags, and returns the tag's name, which has been read. */
  #block(...ends: string[]): { body: Statement[]; end: string } {
    this.skip("operator", ":");
    this.expectEnd();
    const body = this.#body(ends);
    if (this.token.type === "eof") this.fail(`expected {% ${ends.at(-1)} %}`);
    return { body, end: this.next().value };
  }

  #statement(): Statement[] {
    const { type, value } = this.token;
    if (type !== "name") this.fail(`expected the name of a tag, got ${value}`);
    this.next();
    switch (value) {
      case "if":
        return [this.#if()];
      case "for":
        return [this.#for()];
      case "set":
        return [this.#set()];
      case "with":
        return [this.#with()];
      case "macro": {
        const name = this.expect("name").value;
        return [{ type: "macro", name, macro: this.#macro(this.#signature(), "endmacro") }];
      }
      case "call": {
        const signature = this.isOperator("(") ? this.#signature() : { params: [], defaults: [] };
        const call = this.expression();
        if (call.type !== "call") return this.fail("expected a call in {% call %}");
        return [{ type: "call block", call, macro: this.#macro(signature, "endcall") }];
      }
      case "filter": {
        const filter = this.filters(null, true)!;
        return [{ type: "filter block", filter, body: this.#block("endfilter").body }];
      }
      case "generation":
        return [{ type: "generation", body: this.#apart(() => this.#block("endgeneration").body) }];
      case "block": {
        const name = this.expect("name").value;
        this.skip("name", "scoped");
        const { body } = this.#block("endblock");
        this.skip("name", name);
        return [{ type: "block", body }];
      }
      case "print": {
        const values: Statement[] = [];
        while (this.token.type !== "end") {
          if (values.length > 0) this.expect("operator", ",");
          values.push({ type: "print", value: this.expression() });
        }
        return values;
      }
      case "break":
      case "continue":
        if (this.#loops === 0) this.fail(`expected {% ${value} %} in a loop`);
        return [{ type: value }];
      default:
        return this.fail(`expected a tag that chat templates have, got ${value}`);
    }
  }

  #if(): Statement {
    const branches: [Expression, Statement[]][] = [];
    for (;;) {
      const test = this.tuple({ choices: false });
      const { body, end } = this.#block("elif", "else", "endif");
      branches.push([test, body]);
      if (end === "elif") continue;
      return { type: "if", branches, otherwise: end === "else" ? this.#block("endif").body : [] };
    }
  }

  #for(): Statement {
    const target = this.target();
    this.expect("name", "in");
    const iterable = this.tuple({ choices: false, end: "recursive" });
    const test = this.skip("name", "if") ? this.expression() : null;
    const recursive = this.skip("name", "recursive");
    this.#loops++;
    const { body, end } = this.#block("endfor", "else");
    this.#loops--;
    const otherwise = end === "else" ? this.#block("endfor").body : [];
    return { type: "for", target, iterable, test, recursive, body, otherwise };
  }

  #set(): Statement {
    const target = this.target(true);
    if (this.skip("operator", "=")) return { type: "set", target, value: this.tuple() };
    const filter = this.filters(null);
    return { type: "set block", target, filter, body: this.#block("endset").body };
  }

  #with(): Statement {
    const values: [Target, Expression][] = [];
    while (this.token.type !== "end") {
      if (values.length > 0) this.expect("operator", ",");
      const target = this.target();
      this.expect("operator", "=");
      values.push([target, this.expression()]);
    }
    return { type: "with", values, body: this.#block("endwith").body };
  }

  #signature(): { params: string[]; defaults: Expression[] } {
    const params: string[] = [];
    const defaults: Expression[] = [];
    this.expect("operator", "(");
    while (!this.isOperator(")")) {
      if (params.length > 0) this.expect("operator", ",");
      params.push(this.expect("name").value);
      if (this.skip("operator", "=")) defaults.push(this.expression());
      else if (defaults.length > 0) this.fail("expected a default value for each parameter after one that has one");
    }
    this.expect("operator", ")");
    return { params, defaults };
  }

  #macro({ params, defaults }: { params: string[]; defaults: Expression[] }, end: string): MacroBody {
    const outer = this.names;
    this.names = new Set();
    const { body } = this.#apart(() => this.#block(end));
    const special = new Set(["varargs", "kwargs", "caller"].filter((n) => this.names.has(n) && !params.includes(n)));
    for (const name of this.names) outer.add(name);
    this.names = outer;
    return { params, defaults, body, special };
  }

  /** Parses a body that cannot end the loops around it. */
  #apart<T>(parse: () => T): T {
    const loops = this.#loops;
    this.#loops = 0;
    const parsed = parse();
    this.#loops = loops;
    return parsed;
  }
}
