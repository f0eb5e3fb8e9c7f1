// Evaluates the parts of a template.
import { attributeOf, callValue, itemOf } from "./attributes.js";
import type { Bounds } from "./bounds.js";
import { filters } from "./filters.js";
import { globalsOf } from "./globals.js";
import { Loop } from "./loop.js";
import type { Arguments, Comparison, Expression, MacroBody, Statement, Target } from "./nodes.js";
import { arithmetic, concatenate, contains, signed, slice } from "./operators.js";
import { guarded, shownText, TextBuilder } from "./untrusted.js";
import { fail, type Runtime } from "./runtime.js";
import { tests } from "./tests.js";
import {
  compare,
  Dict,
  equal,
  Func,
  iterate,
  type Keywords,
  Namespace,
  chargedSize,
  stringOf,
  TemplateError,
  type Text,
  truth,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.js";

/** A scope of variables. */
class Scope {
  readonly variables: Map<string, Value>;

  constructor(
    readonly parent: Scope | null,
    variables: Iterable<readonly [string, Value]> = [],
  ) {
    this.variables = new Map(variables);
  }
}

/** The statement that ended a body before its end. */
type Ending = "break" | "continue" | undefined;

/** Text that is being written. */
class Output {
  readonly #text = new TextBuilder();

  constructor(readonly bounds: Bounds) {}

  add(text: string | Text): void {
    this.bounds.write(stringOf(text)!.length);
    this.#text.add(text);
  }

  get text(): string | Text {
    return this.#text.value;
  }
}

/** Options of the rendering of a template. */
export interface RenderOptions {
  /** True if every use of what does not exist is an error, but for the test `defined`. */
  readonly strict: boolean;
  /** Texts before and behind what the assistant says, {% generation %}; null for none. */
  readonly marks: readonly [before: string, behind: string] | null;
}

export class Interpreter implements Runtime {
  readonly #options: RenderOptions;
  readonly #globals: Scope;

  constructor(
    readonly bounds: Bounds,
    variables: ReadonlyMap<string, Value>,
    options: RenderOptions,
  ) {
    this.#options = options;
    this.#globals = new Scope(new Scope(null, globalsOf(this)), variables);
  }

  /** Returns the text of a template. */
  render(body: readonly Statement[]): string | Text {
    const out = new Output(this.bounds);
    this.#run(body, new Scope(this.#globals), out);
    return out.text;
  }

  /** Returns the value of an expression. */
  value(expression: Expression): Value {
    return this.#evaluate(expression, this.#globals);
  }

  undefined(message: string): Undefined {
    return new Undefined(message, this.#options.strict);
  }

  attribute(value: Value, name: string): Value {
    return attributeOf(this, value, name);
  }

  item(value: Value, key: Value): Value {
    return itemOf(this, value, key);
  }

  filter(name: string, value: Value, args: readonly Value[], kwargs: Keywords): Value {
    const filter = Object.hasOwn(filters, name) ? filters[name] : undefined;
    if (!filter) return fail(`No filter named '${name}'.`);
    this.bounds.spend(1);
    const result = filter.apply(this, value, filter.signature.bind(name, args, kwargs), kwargs);
    return filter.tracks ? result : guarded(result, [value, ...args], kwargs);
  }

  test(name: string, value: Value, args: readonly Value[], kwargs: Keywords): boolean {
    if (name === "filter" || name === "test") {
      if (args.length + kwargs.size > 0) return fail(`the test '${name}' takes no arguments`);
      const known = name === "filter" ? filters : tests;
      return new Dict(Object.keys(known).map((key) => [key, true])).has(value);
    }
    const test = Object.hasOwn(tests, name) ? tests[name] : undefined;
    if (!test) return fail(`No test named '${name}'.`);
    this.bounds.spend(1);
    return test.apply(this, value, test.signature.bind(name, args, kwargs), kwargs);
  }

  call(callee: Value, args: readonly Value[], kwargs: Keywords): Value {
    return callValue(callee, args, kwargs);
  }

  #run(body: readonly Statement[], scope: Scope, out: Output): Ending {
    for (const statement of body) {
      this.bounds.spend(1);
      const ending = this.#execute(statement, scope, out);
      if (ending) return ending;
    }
    return undefined;
  }

  #execute(statement: Statement, scope: Scope, out: Output): Ending {
    switch (statement.type) {
      case "text":
        out.add(statement.text);
        return undefined;
      case "print":
        out.add(shownText(this.#evaluate(statement.value, scope), this.bounds));
        return undefined;
      case "if": {
        for (const [test, body] of statement.branches)
          if (truth(this.#evaluate(test, scope))) return this.#run(body, scope, out);
        return this.#run(statement.otherwise, scope, out);
      }
      case "for":
        this.#loop(statement, this.#evaluate(statement.iterable, scope), scope, out, 0);
        return undefined;
      case "set":
        this.#assign(statement.target, this.#evaluate(statement.value, scope), scope);
        return undefined;
      case "set block": {
        const text = this.#capture(statement.body, scope);
        const { filter } = statement;
        this.#assign(statement.target, filter ? this.#filterText(filter, text, scope) : text, scope);
        return undefined;
      }
      case "with": {
        const inner = new Scope(scope);
        for (const [target, value] of statement.values) this.#assign(target, this.#evaluate(value, scope), inner);
        return this.#run(statement.body, inner, out);
      }
      case "filter block": {
        const inner = new Output(this.bounds);
        const ending = this.#run(statement.body, new Scope(scope), inner);
        const text = this.#filterText(statement.filter, inner.text, scope);
        if (stringOf(text) === undefined) fail(`expected {% filter %} to give a str, got ${typeName(text)}`);
        out.add(text as string | Text);
        return ending;
      }
      case "macro":
        scope.variables.set(statement.name, this.#macro(statement.name, statement.macro, scope));
        return undefined;
      case "call block": {
        const caller = this.#macro("anonymous", statement.macro, scope);
        const { callee, ...given } = statement.call;
        const { args, kwargs } = this.#arguments(given, scope);
        if (kwargs.has("caller")) fail("expected no argument `caller` in {% call %}");
        const value = this.call(this.#evaluate(callee, scope), args, new Map([...kwargs, ["caller", caller]]));
        out.add(shownText(value, this.bounds));
        return undefined;
      }
      case "generation": {
        const [before, behind] = this.#options.marks ?? ["", ""];
        for (const text of [before, this.#capture(statement.body, scope), behind]) out.add(text);
        return undefined;
      }
      case "block":
        return this.#run(statement.body, new Scope(this.#globalScope(scope)), out);
      case "break":
      case "continue":
        return statement.type;
    }
  }

  /** Returns the scope of a template's outermost statements. */
  #globalScope(scope: Scope): Scope {
    let outermost = scope;
    while (outermost.parent && outermost.parent !== this.#globals) outermost = outermost.parent;
    return outermost;
  }

  #capture(body: readonly Statement[], scope: Scope): string | Text {
    const out = new Output(this.bounds);
    this.#run(body, new Scope(scope), out);
    return out.text;
  }

  #loop(statement: Statement & { type: "for" }, given: Value, scope: Scope, out: Output, depth: number): void {
    const { target, test, recursive, body, otherwise } = statement;
    const recurse = (items: Value, inner: number): Value =>
      this.bounds.nested(() => {
        const text = new Output(this.bounds);
        this.#loop(statement, items, scope, text, inner);
        return text.text;
      });
    const items = test ? this.#chosen(given, target, test, scope) : iterate(given, this.bounds);
    const loop = new Loop(items, test ? null : given, depth, this, recursive ? recurse : null);
    let ended = false;
    for (let item = loop.next(); item !== undefined; item = loop.next()) {
      this.bounds.spend(4);
      const inner = new Scope(scope);
      inner.variables.set("loop", loop);
      this.#assign(target, item, inner);
      const ending = this.#run(body, inner, out);
      ended ||= ending === undefined;
      if (ending === "break") break;
    }
    // As in Jinja2, a loop whose bodies all ended with `break` or `continue` counts as one without items.
    if (!ended) this.#run(otherwise, new Scope(scope), out);
  }

  /** Yields the items for which the condition of a loop holds. */
  *#chosen(items: Value, target: Target, test: Expression, scope: Scope): Generator<Value> {
    for (const item of iterate(items, this.bounds)) {
      const inner = new Scope(scope);
      this.#assign(target, item, inner);
      if (truth(this.#evaluate(test, inner))) yield item;
    }
  }

  #assign(target: Target, value: Value, scope: Scope): void {
    switch (target.type) {
      case "name":
        scope.variables.set(target.name, value);
        return;
      case "tuple": {
        const values: Value[] = [];
        for (const item of iterate(value, this.bounds)) {
          if (values.length === target.items.length) fail(`too many values to unpack (expected ${values.length})`);
          values.push(item);
        }
        if (values.length < target.items.length)
          fail(`not enough values to unpack (expected ${target.items.length}, got ${values.length})`);
        target.items.forEach((part, i) => this.#assign(part, values[i]!, scope));
        return;
      }
      case "namespace": {
        const namespace = this.#lookUp(target.name, scope);
        if (!(namespace instanceof Namespace)) return fail("cannot assign attribute on non-namespace object");
        namespace.values.set(target.attribute, value);
      }
    }
  }

  #lookUp(name: string, scope: Scope): Value {
    for (let at: Scope | null = scope; at; at = at.parent) {
      const value = at.variables.get(name);
      if (value !== undefined) return value;
      this.bounds.spend(1 / 8);
    }
    return this.undefined(`'${name}' is undefined`);
  }

  #macro(name: string, { params, defaults, body, special }: MacroBody, scope: Scope): Func {
    const firstDefault = params.length - defaults.length;
    return new Macro(name, params, special, (args, kwargs) =>
      this.bounds.nested(() => {
        const inner = new Scope(scope);
        const named = new Map(kwargs);
        const takes = (word: string): boolean => special.has(word);
        this.bounds.spend(4 + args.length + kwargs.size);
        for (const [i, param] of params.entries()) {
          let value = args[i];
          if (value === undefined) {
            value = named.get(param);
            named.delete(param);
          }
          const usual = defaults[i - firstDefault];
          if (value === undefined && usual) value = this.#evaluate(usual, inner);
          if (value === undefined) value = this.undefined(`parameter '${param}' was not provided`);
          inner.variables.set(param, value);
        }
        if (takes("caller")) {
          inner.variables.set("caller", named.get("caller") ?? this.undefined("No caller defined")); // A macro, never None.
          named.delete("caller");
        }
        if (takes("kwargs")) inner.variables.set("kwargs", new Dict(named));
        else if (named.size > 0) fail(`macro '${name}' takes no keyword argument '${[...named.keys()][0]}'`);
        if (takes("varargs")) inner.variables.set("varargs", new Tuple(args.slice(params.length)));
        else if (args.length > params.length) fail(`macro '${name}' takes not more than ${params.length} argument(s)`);
        const out = new Output(this.bounds);
        this.#run(body, inner, out);
        return out.text;
      }),
    );
  }

  #evaluate(node: Expression, scope: Scope): Value {
    const { bounds } = this;
    bounds.spend(1);
    switch (node.type) {
      case "constant":
        return node.value;
      case "name":
        return this.#lookUp(node.name, scope);
      case "list":
        return node.items.map((item) => this.#evaluate(item, scope));
      case "tuple":
        return new Tuple(node.items.map((item) => this.#evaluate(item, scope)));
      case "dict": {
        const dict = new Dict();
        for (const [key, value] of node.entries) {
          const own = this.#evaluate(key, scope);
          bounds.spend((stringOf(own)?.length ?? 0) / 64);
          dict.set(own, this.#evaluate(value, scope));
        }
        return dict;
      }
      case "concat":
        return concatenate(
          node.items.map((item) => this.#evaluate(item, scope)),
          bounds,
        );
      case "and":
      case "or": {
        const left = this.#evaluate(node.left, scope);
        return truth(left) === (node.type === "or") ? left : this.#evaluate(node.right, scope);
      }
      case "not":
        return !truth(this.#evaluate(node.operand, scope));
      case "minus":
      case "plus":
        return signed(this.#evaluate(node.operand, scope), node.type === "minus");
      case "arithmetic":
        return arithmetic(node.operator, this.#evaluate(node.left, scope), this.#evaluate(node.right, scope), bounds);
      case "signed power": {
        const base = this.#evaluate(node.left, scope);
        const negative = !(base instanceof Undefined) && compare(base, 0, bounds) < 0;
        const power = arithmetic("**", signed(base, negative), this.#evaluate(node.right, scope), bounds);
        return signed(power, negative);
      }
      case "compare": {
        let left = this.#evaluate(node.first, scope);
        for (const [operator, operand] of node.others) {
          const right = this.#evaluate(operand, scope);
          if (!this.#compare(operator, left, right)) return false;
          left = right;
        }
        return true;
      }
      case "choice": {
        if (truth(this.#evaluate(node.test, scope))) return this.#evaluate(node.then, scope);
        if (node.otherwise) return this.#evaluate(node.otherwise, scope);
        // In Jinja2 this value is lenient in a strict environment as well.
        return new Undefined("the inline if-expression evaluated to false and no else section was defined.");
      }
      case "attribute":
        return this.attribute(this.#evaluate(node.object, scope), node.name);
      case "item":
        return this.item(this.#evaluate(node.object, scope), this.#evaluate(node.key, scope));
      case "slice": {
        const object = this.#evaluate(node.object, scope);
        const parts = [node.start, node.stop, node.step].map((part) => part && this.#evaluate(part, scope));
        return slice(object, parts, bounds);
      }
      case "call": {
        const callee = this.#evaluate(node.callee, scope);
        const { args, kwargs } = this.#arguments(node, scope);
        return this.call(callee, args, kwargs);
      }
      case "filter": {
        const operand = this.#evaluate(node.operand!, scope);
        const { args, kwargs } = this.#arguments(node, scope);
        return this.filter(node.name, operand, args, kwargs);
      }
      case "test": {
        const operand = this.#evaluate(node.operand, scope);
        const { args, kwargs } = this.#arguments(node, scope);
        return this.test(node.name, operand, args, kwargs);
      }
    }
  }

  /** Applies the filters of a block to its text. */
  #filterText(filter: Expression, text: string | Text, scope: Scope): Value {
    if (filter.type !== "filter") return this.#evaluate(filter, scope);
    const operand = filter.operand ? this.#filterText(filter.operand, text, scope) : text;
    const { args, kwargs } = this.#arguments(filter, scope);
    return this.filter(filter.name, operand, args, kwargs);
  }

  #compare(operator: Comparison, a: Value, b: Value): boolean {
    switch (operator) {
      case "==":
        return equal(a, b, this.bounds);
      case "!=":
        return !equal(a, b, this.bounds);
      case "in":
        return contains(b, a, this.bounds);
      case "not in":
        return !contains(b, a, this.bounds);
      case "<":
        return compare(a, b, this.bounds, operator) < 0;
      case "<=":
        return compare(a, b, this.bounds, operator) <= 0;
      case ">":
        return compare(a, b, this.bounds, operator) > 0;
      case ">=":
        return compare(a, b, this.bounds, operator) >= 0;
    }
  }

  #arguments({ args, kwargs, spread, kwSpread }: Arguments, scope: Scope): { args: Value[]; kwargs: Keywords } {
    const values = args.map((arg) => this.#evaluate(arg, scope));
    const named = new Map(kwargs.map(([name, value]) => [name, this.#evaluate(value, scope)]));
    if (spread) {
      const list = this.#evaluate(spread, scope);
      this.bounds.spend(chargedSize(list, this.bounds) ?? 0);
      for (const item of iterate(list, this.bounds)) values.push(item);
    }
    if (kwSpread) {
      const dict = this.#evaluate(kwSpread, scope);
      if (!(dict instanceof Dict))
        throw new TemplateError(`argument after ** must be a mapping, not ${typeName(dict)}`);
      this.bounds.spend(dict.size);
      for (const [key, value] of dict.entries()) {
        const name = stringOf(key) ?? fail("keywords must be strings");
        if (named.has(name)) fail(`got multiple values for keyword argument '${name}'`);
        named.set(name, value);
      }
    }
    return { args: values, kwargs: named };
  }
}

/** A macro, whose attributes say how it can be called. */
class Macro extends Func {
  override readonly type = "Macro";

  constructor(
    name: string,
    readonly params: readonly string[],
    readonly special: ReadonlySet<string>,
    call: Func["call"],
  ) {
    super(name, call);
  }

  override attribute(name: string): Value | undefined {
    if (name === "name") return this.name === "anonymous" ? null : this.name;
    if (name === "arguments") return new Tuple(this.params);
    if (name === "catch_kwargs") return this.special.has("kwargs");
    if (name === "catch_varargs") return this.special.has("varargs");
    return name === "caller" ? this.special.has("caller") : undefined;
  }
}
