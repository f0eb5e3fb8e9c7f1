// Parses the expressions of a template, from those that bind least: a if b else c; or; and; not; comparisons; + and -;
// ~; *, /, // and %; **; signs; and filters and tests, which bind more than the signs do.
import { maxDepth } from "./bounds.js";
import type { Token, TokenType } from "./lexer.js";
import type { Arguments, Arithmetic, Comparison, Expression, Target } from "./nodes.js";
import { Float, TemplateError, type Value } from "./values.js";

const constants: ReadonlyMap<string, Value> = new Map<string, Value>([
  ...([["true", true], ["True", true], ["false", false], ["False", false], ["none", null], ["None", null]] as const), // prettier-ignore
]);
const comparisons: ReadonlySet<string> = new Set(["==", "!=", "<", "<=", ">", ">="]);
/** Words that end a test without arguments. */
const afterTest: ReadonlySet<string> = new Set(["else", "or", "and"]);

/** Returns true for an expression of numbers alone, which Jinja2 computes when it reads the template. */
const isNumber = (node: Expression): boolean =>
  node.type === "constant"
    ? typeof node.value !== "string"
    : node.type === "minus" || node.type === "plus"
      ? isNumber(node.operand)
      : node.type === "arithmetic" && isNumber(node.left) && isNumber(node.right);

/**
 * Returns the power of an expression. As in Jinja2, whose Python has `-2 ** n` where the template has `(-2) ** n`, the
 * sign of a number that the template contains belongs to the power.
 */
function powerOf(_: string, left: Expression, right: Expression): Expression {
  const signed = isNumber(left) && !isNumber(right);
  return { type: signed ? "signed power" : "arithmetic", operator: "**", left, right };
}

export class ExpressionParser {
  readonly #tokens: readonly Token[];
  #at = 0;
  protected depth = 0;
  /** Names that the expressions read so far. */
  protected names = new Set<string>();

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  protected get token(): Token {
    return this.#tokens[this.#at]!;
  }

  /** Returns the current token and goes to the next one. */
  protected next(): Token {
    const { token } = this;
    if (token.type !== "eof") this.#at++;
    return token;
  }

  protected fail(message: string): never {
    throw new TemplateError(`${message} in line ${this.token.line}`);
  }

  protected is(type: TokenType, value?: string): boolean {
    return this.token.type === type && (value === undefined || this.token.value === value);
  }

  protected isName(value: string): boolean {
    return this.is("name", value);
  }

  protected isOperator(value: string): boolean {
    return this.is("operator", value);
  }

  protected skip(type: TokenType, value: string): boolean {
    if (!this.is(type, value)) return false;
    this.#at++;
    return true;
  }

  protected expect(type: TokenType, value?: string): Token {
    if (!this.is(type, value)) this.fail(`expected ${value ?? type}, got ${this.token.value}`);
    return this.next();
  }

  protected expectEnd(): void {
    if (!this.is("end")) this.fail(`expected the end of the tag, got ${this.token.value}`);
    this.next();
  }

  /** Parses an expression, or several with commas between them, which are a tuple. */
  protected tuple(options: { choices?: boolean; end?: string; parentheses?: boolean } = {}): Expression {
    const { choices = true, end, parentheses = false } = options;
    const items: Expression[] = [];
    let several = false;
    for (;;) {
      if (items.length > 0) this.expect("operator", ",");
      if (this.is("end") || this.isOperator(")") || (end !== undefined && this.isName(end))) break;
      items.push(choices ? this.expression() : this.#or());
      if (!this.isOperator(",")) break;
      several = true;
    }
    if (several) return { type: "tuple", items };
    if (items.length === 0 && !parentheses) this.fail(`expected an expression, got ${this.token.value}`);
    return items[0] ?? { type: "tuple", items };
  }

  /** Parses what a value is assigned to. */
  protected target(namespaces = false): Target {
    const items: Target[] = [];
    let several = false;
    for (;;) {
      if (items.length > 0) this.expect("operator", ",");
      if (this.is("end") || this.isOperator(")") || this.isName("in") || this.isOperator("=")) break;
      if (this.skip("operator", "(")) {
        items.push(this.target());
        this.expect("operator", ")");
      } else {
        const name = this.expect("name").value;
        if (constants.has(name)) this.fail(`expected a name that can be assigned to, got ${name}`);
        if (namespaces && this.skip("operator", "."))
          items.push({ type: "namespace", name, attribute: this.expect("name").value });
        else items.push({ type: "name", name });
      }
      if (!this.isOperator(",")) break;
      several = true;
    }
    if (items.length === 0) this.fail(`expected a name, got ${this.token.value}`);
    return several ? { type: "tuple", items } : items[0]!;
  }

  protected expression(): Expression {
    return this.#nested(() => {
      let value = this.#or();
      while (this.skip("name", "if")) {
        const test = this.#or();
        const otherwise = this.skip("name", "else") ? this.expression() : null;
        value = { type: "choice", test, then: value, otherwise };
      }
      return value;
    });
  }

  #nested<T>(parse: () => T): T {
    if (++this.depth > maxDepth) throw new TemplateError(`expected parts nested at most ${maxDepth} deep`);
    const parsed = parse();
    this.depth--;
    return parsed;
  }

  /** Parses operands with operators between them, which group to the left. */
  #chain(
    operand: () => Expression,
    operators: readonly string[],
    type: "operator" | "name",
    join: (operator: string, left: Expression, right: Expression) => Expression,
  ): Expression {
    let left = operand();
    for (let count = 0; operators.some((value) => this.is(type, value)); count++) {
      if (this.depth + count > maxDepth) throw new TemplateError(`expected operators nested at most ${maxDepth} deep`);
      left = join(this.next().value, left, operand());
    }
    return left;
  }

  #or(): Expression {
    return this.#chain(
      () => this.#and(),
      ["or"],
      "name",
      (_, left, right) => ({ type: "or", left, right }),
    );
  }

  #and(): Expression {
    return this.#chain(
      () => this.#not(),
      ["and"],
      "name",
      (_, left, right) => ({ type: "and", left, right }),
    );
  }

  #not(): Expression {
    if (!this.skip("name", "not")) return this.#compare();
    return this.#nested(() => ({ type: "not", operand: this.#not() }));
  }

  #compare(): Expression {
    const first = this.#sum();
    const others: [Comparison, Expression][] = [];
    for (;;) {
      if (this.token.type === "operator" && comparisons.has(this.token.value))
        others.push([this.next().value as Comparison, this.#sum()]);
      else if (this.skip("name", "in")) others.push(["in", this.#sum()]);
      else if (this.isName("not") && this.#isNext("name", "in")) {
        this.#at += 2;
        others.push(["not in", this.#sum()]);
      } else return others.length === 0 ? first : { type: "compare", first, others };
    }
  }

  #isNext(type: TokenType, value: string): boolean {
    const token = this.#tokens[this.#at + 1];
    return token?.type === type && token.value === value;
  }

  #arithmetic(operand: () => Expression, ...operators: Arithmetic[]): Expression {
    return this.#chain(operand, operators, "operator", (operator, left, right) => ({
      ...{ type: "arithmetic", operator: operator as Arithmetic, left, right },
    }));
  }

  #sum(): Expression {
    return this.#arithmetic(() => this.#concat(), "+", "-");
  }

  #concat(): Expression {
    const items = [this.#product()];
    while (this.skip("operator", "~")) items.push(this.#product());
    return items.length === 1 ? items[0]! : { type: "concat", items };
  }

  #product(): Expression {
    return this.#arithmetic(() => this.#power(), "*", "/", "//", "%");
  }

  #power(): Expression {
    return this.#chain(() => this.#unary(), ["**"], "operator", powerOf);
  }

  #unary(filters = true): Expression {
    const sign = this.isOperator("-") ? "minus" : this.isOperator("+") ? "plus" : null;
    let value: Expression;
    if (sign) {
      this.next();
      value = this.#nested(() => ({ type: sign, operand: this.#unary(false) }));
    } else value = this.#primary();
    value = this.#postfix(value);
    return filters ? this.#filtersAndTests(value) : value;
  }

  #primary(): Expression {
    const { type, value, number } = this.token;
    if (type === "name") {
      this.next();
      if (constants.has(value)) return { type: "constant", value: constants.get(value)! };
      this.names.add(value);
      return { type: "name", name: value };
    }
    if (type === "string") {
      let text = "";
      while (this.is("string")) text += this.next().value;
      return { type: "constant", value: text };
    }
    if (type === "integer" || type === "float") {
      this.next();
      return { type: "constant", value: type === "float" ? new Float(number as number) : number! };
    }
    if (this.skip("operator", "(")) {
      const inside = this.#nested(() => this.tuple({ parentheses: true }));
      this.expect("operator", ")");
      return inside;
    }
    if (this.skip("operator", "[")) return { type: "list", items: this.#items("]", () => this.expression()) };
    if (this.skip("operator", "{")) {
      const entry = (): [Expression, Expression] => {
        const key = this.expression();
        this.expect("operator", ":");
        return [key, this.expression()];
      };
      return { type: "dict", entries: this.#items("}", entry) };
    }
    return this.fail(`expected an expression, got ${value}`);
  }

  /** Parses items with commas between them, and perhaps behind the last one, up to a closing bracket. */
  #items<T>(closing: string, item: () => T): T[] {
    const items: T[] = [];
    while (!this.isOperator(closing)) {
      if (items.length > 0) this.expect("operator", ",");
      if (this.isOperator(closing)) break;
      items.push(item());
    }
    this.expect("operator", closing);
    return items;
  }

  #postfix(operand: Expression): Expression {
    return this.#repeat(operand, (value) => {
      if (this.isOperator("(")) return { type: "call", callee: value, ...this.#arguments() };
      if (this.skip("operator", ".")) {
        const { type, value: name, number } = this.next();
        if (type === "name") return { type: "attribute", object: value, name };
        if (type !== "integer") this.fail("expected a name or a number after the .");
        return { type: "item", object: value, key: { type: "constant", value: number! } };
      }
      return this.skip("operator", "[") ? this.#subscript(value) : null;
    });
  }

  #repeat(operand: Expression, step: (value: Expression) => Expression | null): Expression {
    let value = operand;
    for (let count = 0; ; count++) {
      if (this.depth + count > maxDepth) throw new TemplateError(`expected parts nested at most ${maxDepth} deep`);
      const next = step(value);
      if (!next) return value;
      value = next;
    }
  }

  #subscript(object: Expression): Expression {
    const [first, ...others] = this.#items("]", () => this.#sliceOrKey());
    if (others.length > 0 || first === undefined) {
      const keys = (first ? [first, ...others] : []).map((part) => ("key" in part ? part.key : this.fail("expected keys or one slice"))); // prettier-ignore
      return { type: "item", object, key: { type: "tuple", items: keys } };
    }
    return "key" in first ? { type: "item", object, key: first.key } : { type: "slice", object, ...first };
  }

  #sliceOrKey(): { key: Expression } | Record<"start" | "stop" | "step", Expression | null> {
    const start = this.isOperator(":") ? null : this.expression();
    if (!this.skip("operator", ":")) return { key: start! };
    const part = (): Expression | null =>
      this.isOperator(":") || this.isOperator("]") || this.isOperator(",") ? null : this.expression();
    const stop = part();
    return { start, stop, step: this.skip("operator", ":") ? part() : null };
  }

  #arguments(): Arguments {
    const args: Expression[] = [];
    const kwargs: [string, Expression][] = [];
    let [spread, kwSpread]: [Expression | null, Expression | null] = [null, null];
    const ensure = (valid: boolean): void => {
      if (!valid) this.fail("expected positional arguments before the others");
    };
    this.expect("operator", "(");
    this.#items(")", () => {
      if (this.skip("operator", "*")) {
        ensure(!spread && !kwSpread);
        spread = this.expression();
      } else if (this.skip("operator", "**")) {
        ensure(!kwSpread);
        kwSpread = this.expression();
      } else if (this.is("name") && this.#isNext("operator", "=")) {
        ensure(!kwSpread);
        const name = this.next().value;
        this.next();
        if (kwargs.some(([other]) => other === name)) this.fail(`expected one argument ${name}, got two`);
        kwargs.push([name, this.expression()]);
      } else {
        ensure(!spread && !kwSpread && kwargs.length === 0);
        args.push(this.expression());
      }
    });
    return { args, kwargs, spread, kwSpread };
  }

  #filtersAndTests(operand: Expression): Expression {
    return this.#repeat(operand, (value) => {
      if (this.isOperator("|")) return this.filters(value);
      if (this.skip("name", "is")) return this.#test(value);
      return this.isOperator("(") ? { type: "call", callee: value, ...this.#arguments() } : null;
    });
  }

  /** Parses the filters of an operand, which is null for those of a block; `begun` if there is no | before the first. */
  protected filters(operand: Expression | null, begun = false): Expression | null {
    let value = operand;
    for (let count = 0; (begun && count === 0) || this.skip("operator", "|"); count++) {
      if (this.depth + count > maxDepth) throw new TemplateError(`expected filters nested at most ${maxDepth} deep`);
      const name = this.#dottedName();
      const given = this.isOperator("(") ? this.#arguments() : none;
      value = { type: "filter", operand: value, name, ...given };
    }
    return value;
  }

  #dottedName(): string {
    let name = this.expect("name").value;
    while (this.skip("operator", ".")) name += `.${this.expect("name").value}`;
    return name;
  }

  #test(operand: Expression): Expression {
    const negated = this.skip("name", "not");
    const name = this.#dottedName();
    let given = none;
    const { type, value } = this.token;
    if (this.isOperator("(")) given = this.#arguments();
    else if (
      ["string", "integer", "float"].includes(type) ||
      this.isOperator("[") ||
      this.isOperator("{") ||
      (type === "name" && !afterTest.has(value))
    ) {
      // prettier-ignore
      if (value === "is" && type === "name") this.fail("expected one test: join several with `and`");
      given = { ...none, args: [this.#postfix(this.#primary())] };
    }
    const test: Expression = { type: "test", operand, name, ...given };
    return negated ? { type: "not", operand: test } : test;
  }
}

const none: Arguments = { args: [], kwargs: [], spread: null, kwSpread: null };
