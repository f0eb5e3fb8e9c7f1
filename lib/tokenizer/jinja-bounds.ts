// Limits what a chat template may do. Templates come with models from strangers, and rendering is synchronous, so a
// hostile template could block the event loop or exhaust memory. Hugging Face's interpreter evaluates every node of a
// template with one method. The method below replaces it: it evaluates a node's operands, charges for what the node is
// about to do with them, and hands node and operands to the interpreter. An operation that takes longer for larger
// operands is charged by their sizes. The unit of work is about one small node (0.2 µs). An operation that makes a text
// is refused before it runs if the text would be too long.
import { HeedError } from "../errors.js";
import type { Callable, Environment, Interpreter, Node, Value } from "./jinja.js";

/** Maximum depth to which parts of a template, and calls of its macros, may be nested. */
const maxDepth = 256;
/**
 * Maximum length of a run of white space: the interpreter's scanner looks at each run again from each of its
 * characters.
 */
const maxSpaces = 2048;
const maxSourceLength = 2 ** 18;
/** Maximum length of range(), the same as in the sandbox of Python's Jinja2. */
const maxRange = 100_000;

/**
 * Checks that a template is short enough to be parsed.
 *
 * @throws ERR_FORMAT if the template, or a run of white space in it, is too long.
 */
export function checkTemplateSource(source: string): void {
  if (source.length > maxSourceLength)
    throw new HeedError("ERR_FORMAT", `expected at most ${maxSourceLength} characters, got ${source.length}`);
  for (const [{ length }] of source.matchAll(/\s+/g))
    if (length > maxSpaces)
      throw new HeedError(
        "ERR_FORMAT",
        `expected at most ${maxSpaces} characters of white space in a row, got ${length}`,
      );
}

/** Facts about a parsed template that its limits rely on. */
export interface TemplateOutline {
  /** The nodes whose values become part of the text. */
  readonly written: ReadonlySet<unknown>;
  /**
   * The number of nodes in each macro and in each body of a call. The interpreter visits them all at every definition.
   */
  readonly sizes: ReadonlyMap<unknown, number>;
}

/**
 * Collects the facts about a parsed template.
 *
 * @throws ERR_FORMAT if its parts are nested too deeply.
 */
export function outlineTemplate(tree: unknown): TemplateOutline {
  const written = new Set<unknown>();
  const sizes = new Map<unknown, number>();
  const visit = (part: unknown, depth: number, writes: boolean): number => {
    if (typeof part !== "object" || part === null) return 0;
    if (depth > maxDepth) throw new HeedError("ERR_FORMAT", `expected parts nested at most ${maxDepth} deep`);
    if (Array.isArray(part) || part instanceof Map)
      return [...part].flat().reduce((sum: number, item) => sum + visit(item, depth, writes), 0);
    if (writes) written.add(part);
    let size = 1;
    for (const [name, value] of Object.entries(part))
      size += visit(value, depth + 1, name === "body" || name === "alternate" || name === "defaultBlock");
    const { type } = part as Node;
    if (type === "Macro" || type === "CallStatement") sizes.set(part, size);
    return size;
  };
  visit(tree, 0, false);
  return { written, sizes };
}

/** The limits of one rendering. More input allows more work and more text. */
export class RenderBounds {
  readonly #outline: TemplateOutline;
  readonly #evaluate: Interpreter["evaluate"];
  readonly #maxWork: number;
  readonly #maxLength: number;
  #work = 0;
  #length = 0;
  #depth = 0;

  /** Limits what `interpreter` does with a template. `input` is what the caller gives for the rendering. */
  constructor(interpreter: Interpreter, outline: TemplateOutline, input: unknown) {
    const { values, characters } = measure(input);
    this.#outline = outline;
    this.#maxWork = 2e6 + 500 * values + 8 * characters;
    this.#maxLength = 2 ** 20 + 2000 * values + 32 * characters;
    this.#evaluate = interpreter.evaluate.bind(interpreter);
    interpreter.evaluate = (node, scope) => this.evaluate(node, scope);
  }

  evaluate(node: Node | undefined, scope: Environment): Value {
    if (!node) return this.#evaluate(node, scope);
    if (node.type === "Held") return node.value as Value;
    this.spend(1);
    if (++this.#depth > maxDepth)
      throw new HeedError("ERR_RANGE", `expected calls and parts nested at most ${maxDepth} deep`);
    try {
      const value = this.#operate(node, scope);
      if (this.#outline.written.has(node)) this.#write(node, value);
      return value;
    } finally {
      this.#depth--;
    }
  }

  /**
   * Charges for work.
   *
   * @throws ERR_RANGE if more work has been done than the input allows.
   */
  spend(work: number): void {
    this.#work += work;
    if (this.#work > this.#maxWork)
      throw new HeedError("ERR_RANGE", `expected at most ${this.#maxWork} steps for input of this size, got more`);
  }

  /**
   * Returns what Python's range() yields.
   *
   * @throws ERR_RANGE if the range is too long.
   */
  range(start: number, stop?: number, step = 1): number[] {
    const [from, to] = stop === undefined ? [0, start] : [start, stop];
    if (step === 0) throw new Error("range() step must not be zero");
    const length = Math.max(0, Math.ceil((to - from) / step)) || 0;
    if (length > maxRange)
      throw new HeedError("ERR_RANGE", `expected a range() of at most ${maxRange} numbers, got ${length}`);
    this.spend(length);
    return Array.from({ length }, (_, i) => from + i * step);
  }

  #operate(node: Node, scope: Environment): Value {
    switch (node.type) {
      case "Identifier":
        return this.#lookUp(node, scope);
      case "BinaryExpression":
        return this.#binary(node, scope);
      case "FilterStatement":
        return this.#filter({ ...node, operand: { type: "Program", body: node.body } }, scope);
      case "FilterExpression":
        return this.#filter(node, scope);
      case "MemberExpression":
        return this.#member(node, scope);
      case "For":
        return this.#loop(node, scope);
      case "CallExpression":
        return this.#evaluate({ ...node, args: this.#unpack(node.args as Node[], scope) }, scope);
      case "CallStatement": {
        this.spend(this.#outline.sizes.get(node)! / 8);
        const call = node.call as Node;
        return this.#evaluate({ ...node, call: { ...call, args: this.#unpack(call.args as Node[], scope) } }, scope);
      }
      case "Macro":
        this.spend(this.#outline.sizes.get(node)! / 8);
        return this.#evaluate(node, scope);
      case "TestExpression": {
        const operand = this.#valueOf(node.operand, scope);
        this.spend(lengthOf(operand) / 16);
        return this.#evaluate({ ...node, operand: held(operand) }, scope);
      }
      case "ObjectLiteral": {
        const entries = [...(node.value as Map<Node, Node>)].map(([key, value]) => {
          const name = this.#valueOf(key, scope);
          this.spend(lengthOf(name) / 64);
          return [held(name), value] as const;
        });
        return this.#evaluate({ ...node, value: new Map(entries) }, scope);
      }
      case "Break":
      case "Continue":
        // The interpreter implements them with exceptions, which are slow.
        this.spend(100);
        return this.#evaluate(node, scope);
      default:
        return this.#evaluate(node, scope);
    }
  }

  #valueOf(node: unknown, scope: Environment): Value {
    return this.evaluate(node as Node, scope);
  }

  /**
   * Looks up a name. The interpreter's own lookup throws and catches an exception for every name that it does not know.
   */
  #lookUp(node: Node, scope: Environment): Value {
    const name = node.value as string;
    for (let at: Environment | undefined = scope; at; at = at.parent) {
      const value = at.variables.get(name);
      // namespace() copies its arguments, and a call of str.strip() goes through its text.
      if (value && (name === "namespace" || name.startsWith("str.")))
        return this.#charged(value, (args) => args.forEach((arg) => this.spend(sizeOf(arg) + lengthOf(arg) / 4)));
      if (value) return value;
      this.spend(1 / 8);
    }
    this.spend(50);
    return this.#evaluate(node, scope);
  }

  #binary(node: Node, scope: Environment): Value {
    const operator = (node.operator as { value: string }).value;
    if (operator === "and" || operator === "or") return this.#evaluate(node, scope);
    const left = this.#valueOf(node.left, scope);
    const right = this.#valueOf(node.right, scope);
    const [a, b] = [lengthOf(left), lengthOf(right)];
    if (operator === "in" || operator === "not in")
      this.spend(isText(right) ? (a + b) / 16 : (sizeOf(right) / 8) * (1 + a / 64) + a / 64);
    else if (isText(left) && isText(right)) {
      if (operator === "+" || operator === "~") this.#checkLength(a + b);
      else if (a === b) this.spend(a / 64);
    } else if (isContainer(left) && isContainer(right) && operator !== "~")
      this.spend(operator === "+" ? (sizeOf(left) + sizeOf(right)) / 16 : 0);
    // Joining lists converts them to texts; comparing a list with a text converts the list to a text.
    else this.#checkLength(this.#textLength(left) + this.#textLength(right));
    return this.#evaluate({ ...node, left: held(left), right: held(right) }, scope);
  }

  #filter(node: Node, scope: Environment): Value {
    const operand = this.#valueOf(node.operand, scope);
    const filter = node.filter as Node;
    const call = filter.type === "CallExpression";
    const args = call ? this.#evaluateArguments(filter.args as Node[], scope) : [];
    const name = ((call ? filter.callee : filter) as Node).value as string;
    this.#prepare(name, operand, args.map(valueOfArgument));
    const given = call ? { ...filter, args } : filter;
    return this.#evaluate({ type: "FilterExpression", operand: held(operand), filter: given }, scope);
  }

  #member(node: Node, scope: Environment): Value {
    const object = this.#valueOf(node.object, scope);
    let property = node.property as Node;
    if (node.computed === true && property.type !== "SliceExpression") {
      const key = this.#valueOf(property, scope);
      this.spend((lengthOf(key) + lengthOf(object)) / 64);
      property = held(key);
    } else if (node.computed === true) this.spend(lengthOf(object) / 4 + sizeOf(object) / 16);
    const value = this.#evaluate({ ...node, object: held(object), property }, scope);
    if (node.computed !== true || property.type === "Held") {
      const name = String(property.type === "Held" ? (property.value as Value).value : property.value);
      // The interpreter creates all methods of a value when it looks for one of them.
      if (isText(object) || (object.type === "ObjectValue" && !entriesOf(object).has(name))) {
        this.spend(20);
        if (value.type === "FunctionValue") return this.#charged(value, (args) => this.#prepare(name, object, args));
      }
    }
    return value;
  }

  #loop(node: Node, scope: Environment): Value {
    const select = (node.iterable as Node).type === "SelectExpression" ? (node.iterable as Node) : null;
    const list = this.#valueOf(select ? select.lhs : node.iterable, scope);
    this.spend(8 * sizeOf(list));
    return this.#evaluate({ ...node, iterable: select ? { ...select, lhs: held(list) } : held(list) }, scope);
  }

  /** Evaluates the lists and dictionaries that are spread in a call's arguments. */
  #unpack(args: Node[], scope: Environment): Node[] {
    return args.map((argument) => {
      if (argument.type !== "SpreadExpression" && argument.type !== "KeywordSpreadExpression") return argument;
      const value = this.#valueOf(argument.argument, scope);
      this.spend(sizeOf(value));
      return { ...argument, argument: held(value) };
    });
  }

  #evaluateArguments(args: Node[], scope: Environment): Node[] {
    return this.#unpack(args, scope).map((argument) => {
      if (argument.type === "KeywordArgumentExpression")
        return { ...argument, value: held(this.#valueOf(argument.value, scope)) };
      // Some filters require literals.
      if (argument.type.endsWith("SpreadExpression") || argument.type === "StringLiteral") return argument;
      return held(this.#valueOf(argument, scope));
    });
  }

  #charged(value: Value, charge: (args: Value[]) => void): Value {
    const Function = value.constructor as new (call: Callable) => Value;
    return new Function((args, scope) => {
      charge(args);
      return (value.value as Callable)(args, scope);
    });
  }

  /** Charges for a filter or a method before it is applied. */
  #prepare(name: string, operand: Value, args: readonly Value[]): void {
    const length = lengthOf(operand);
    switch (name) {
      case "length":
      case "first":
      case "last":
      case "list":
      case "safe":
      case "default":
        return this.spend(isText(operand) ? 20 : 0);
      case "tojson":
      case "string":
      case "join":
        return this.#checkLength(this.#textLength(operand, args));
      case "sort":
      case "dictsort": {
        const compared = sizeOf(operand) + this.#textLength(operand) / 8;
        return this.spend(compared * Math.log2(sizeOf(operand) + 2));
      }
      case "unique":
        return this.spend(this.#textLength(operand) / 64);
      case "replace": {
        const [from, to] = args.map(lengthOf);
        const count = occurrences(operand, args[0]);
        this.spend(length / 4 + count);
        return this.#checkLength(length + count * Math.max(0, (to ?? 0) - (from ?? 0)));
      }
      case "split":
        return this.spend(length / 4 + (args[0] && isText(args[0]) ? occurrences(operand, args[0]) : length / 4));
      case "indent": {
        const lines = occurrences(operand, { value: "\n" }) + 1;
        this.spend(length / 8 + lines);
        return this.#checkLength(length + lines * Math.max(0, ...args.flatMap(numbersOf)));
      }
      case "items":
      case "keys":
      case "values":
        return this.spend(2 * sizeOf(operand));
      default: {
        const given = args.reduce((sum, value) => sum + this.#textLength(value), 0);
        this.spend(length / 8 + (sizeOf(operand) / 8) * (1 + given / 16));
      }
    }
  }

  /** Charges for the text that a node writes. */
  #write({ type }: Node, value: Value): void {
    // The parts of If and For have been counted already; null and undefined write nothing.
    if (type === "If" || type === "For" || value.type === "NullValue" || value.type === "UndefinedValue") return;
    this.#length += this.#textLength(value);
    this.#checkLength(this.#length);
  }

  /**
   * Returns an upper bound on the length of a value as text. All parts of the value are visited, since a list may
   * contain another list many times. `args` are the arguments of a filter that makes a text: separators, and the
   * indentation of each level.
   */
  #textLength(value: Value, args: readonly Value[] = [], depth = 1): number {
    if (isText(value)) return lengthOf(value);
    if (!isContainer(value)) return value.type === "FunctionValue" ? 2048 : 32;
    if (depth > maxDepth) throw new HeedError("ERR_RANGE", `expected values nested at most ${maxDepth} deep`);
    const between = args.reduce(
      (sum, arg) => sum + lengthOf(arg) + numbersOf(arg).reduce((a, b) => a + b, 0) * depth,
      4,
    );
    let length = 0;
    for (const part of partsOf(value)) {
      const inside = typeof part === "string" ? part.length : this.#textLength(part, args, depth + 1);
      this.spend(1 / 2 + (typeof part === "string" || isText(part) ? inside / 16 : 0));
      length += between + inside;
      this.#checkLength(length);
    }
    return length;
  }

  #checkLength(length: number): void {
    if (length > this.#maxLength)
      throw new HeedError(
        "ERR_RANGE",
        `expected at most ${this.#maxLength} characters of text for input of this size, got more`,
      );
  }
}

/** Counts the values and the characters in a template's input. */
function measure(input: unknown): { values: number; characters: number } {
  if (typeof input === "string") return { values: 1, characters: input.length };
  const total = { values: 1, characters: 0 };
  if (typeof input !== "object" || input === null) return total;
  for (const [name, value] of Object.entries(input)) {
    const { values, characters } = measure(value);
    total.values += values;
    total.characters += characters + name.length;
  }
  return total;
}

/** Returns a node that stands for a value that has been evaluated. */
const held = (value: Value): Node => ({ type: "Held", value });

function valueOfArgument(node: Node): Value {
  const given = (node.type === "KeywordArgumentExpression" ? node.value : (node.argument ?? node)) as Node;
  return given.type === "Held" ? (given.value as Value) : (given as unknown as Value);
}

const isText = (value: Value): boolean => typeof value.value === "string";
const isContainer = (value: Value): boolean => Array.isArray(value.value) || value.value instanceof Map;
const entriesOf = (value: Value): ReadonlyMap<string, Value> => value.value as Map<string, Value>;

/** Returns the length of a text, and 0 for any other value. */
function lengthOf(value: { value?: unknown }): number {
  return typeof value.value === "string" ? value.value.length : 0;
}

/** Returns the number of items in a list or dictionary, and 0 for any other value. */
function sizeOf({ value }: Value): number {
  return Array.isArray(value) ? value.length : value instanceof Map ? value.size : 0;
}

function* partsOf(value: Value): Generator<Value | string> {
  if (Array.isArray(value.value)) yield* value.value as Value[];
  else for (const [name, part] of entriesOf(value)) yield* [name, part];
}

/** Returns the absolute value of a number, or those of the numbers among keyword arguments. */
function numbersOf({ value }: Value): number[] {
  if (typeof value === "number") return [Math.abs(value)];
  return value instanceof Map ? [...(value as Map<string, Value>).values()].flatMap(numbersOf) : [];
}

function occurrences(text: { value?: unknown }, sought: { value?: unknown } | undefined): number {
  if (typeof text.value !== "string" || typeof sought?.value !== "string") return 0;
  if (sought.value === "") return text.value.length + 1;
  let count = 0;
  for (
    let at = text.value.indexOf(sought.value);
    at >= 0;
    at = text.value.indexOf(sought.value, at + sought.value.length)
  )
    count++;
  return count;
}
