// Calls of tools with tags, as Qwen3-Coder writes them: strings stand as they are, and other values are JSON.
//
//   <tool_call>
//   <function=weather>
//   <parameter=city>
//   Rome
//   </parameter>
//   </function>
//   </tool_call>
import type { JsonSchema } from "../json-schema.js";
import type { Tool, ToolCallDelta } from "../tokenizer/tools.js";
import type { Steps } from "../turns.js";
import { mostFurther, type ToolFormat } from "./call-format.js";
import { callId } from "./call-scanner.js";
import { anyOf, empty, type Expression, literal, optionalPart, repeat, sequence, sequenceOf } from "./expression.js";
import { textUntil } from "./free-text.js";
import { schemaExpression } from "./schema-expression.js";
import { SchemaDocument } from "./schema-document.js";
import { typesOf } from "./schema-keywords.js";
import { withoutPauses } from "./work.js";

const endOfValue = "</parameter>";
const endOfCall = "</function>";

/** Returns the format; the schemas of the tools say what the values of their parameters are. */
export function taggedCalls(tools: readonly Tool[]): ToolFormat {
  return {
    ...{ marker: "<tool_call>", names: ["<tool_call>", "</tool_call>"], bare: false },
    ...{ around: /^(?:\s|<\/tool_call>|<tool_call>)+/, begin: /^<function=/ },
    scanner: (index) => new TaggedCallScanner(index, tools),
    call: taggedCall,
    calls(call, several) {
      const one = sequence(literal("\n"), call, literal("\n</tool_call>"));
      return sequence(one, several ? repeat(sequence(literal("\n<tool_call>"), one), 0, mostFurther) : empty);
    },
  };
}

/** Kinds of values that a parameter may have. */
interface Value {
  /** Texts that it may be, if there are only some; null if any may be. */
  readonly choices: readonly string[] | null;
  /** True if it may be a string. */
  readonly text: boolean;
  /** True if it may be something else than a string. */
  readonly other: boolean;
}

const anything: Value = { choices: null, text: true, other: true };

/** Returns what a schema within `root` allows, as far as it decides how a value is written. */
function valueOf(schema: unknown, root: JsonSchema, depth = 0): Value {
  if (typeof schema !== "object" || schema === null || depth > 16) return anything;
  const given = schema as JsonSchema;
  if (given.$ref !== undefined) {
    const document = withoutPauses(SchemaDocument.of(root));
    return valueOf(document.resolve(given.$ref, { place: "#", base: document.root.base }).value, root, depth + 1);
  }
  const listed = given.const !== undefined ? [given.const] : given.enum;
  if (Array.isArray(listed)) {
    const texts = listed.filter((one) => typeof one === "string");
    const other = texts.length < listed.length;
    return { choices: other ? null : texts, text: texts.length > 0, other };
  }
  const options = given.anyOf ?? given.oneOf;
  if (Array.isArray(options)) {
    const values = options.map((option) => valueOf(option, root, depth + 1));
    return { choices: null, text: values.some(({ text }) => text), other: values.some(({ other }) => other) };
  }
  const types = given.allOf === undefined ? typesOf(given) : [];
  if (types.length === 0) return anything;
  return { choices: null, text: types.includes("string"), other: types.some((type) => type !== "string") };
}

function propertiesOf({ parameters }: Tool): Map<string, unknown> {
  const { properties, required } = (parameters ?? {}) as { properties?: object; required?: readonly string[] };
  const names = Array.isArray(required) ? (required as string[]) : [];
  return new Map<string, unknown>([...names.map((name) => [name, {}] as const), ...Object.entries(properties ?? {})]);
}

function* taggedCall(tool: Tool): Steps<Expression> {
  const root = tool.parameters ?? {};
  const required = new Set(Array.isArray(root.required) ? (root.required as unknown[]) : []);
  const all: Expression[] = [];
  for (const [name, schema] of propertiesOf(tool)) {
    const parameter = sequence(literal(`<parameter=${name}>\n`), yield* valueExpression(schema, tool));
    all.push(required.has(name) ? parameter : optionalPart(parameter));
  }
  return sequenceOf([literal(`<function=${tool.name}>\n`), ...all, literal(endOfCall)]);
}

/** Returns a value with the tag that ends it. Of strings, other keywords than `enum` and `const` are not enforced. */
function* valueExpression(schema: unknown, { parameters: root = {}, strict }: Tool): Steps<Expression> {
  const { choices, text } = valueOf(schema, root);
  const end = literal(`\n${endOfValue}\n`);
  if (choices) return sequence(yield* anyOf(choices.map(literal)), end);
  if (text) return textUntil(endOfValue, literal("\n"), false);
  const { $defs, definitions } = root;
  const known = { ...($defs !== undefined && { $defs }), ...(definitions !== undefined && { definitions }) };
  return sequence(yield* schemaExpression({ ...known, ...(schema as JsonSchema) }, { strict }), end);
}

const pythonWords: Readonly<Record<string, unknown>> = { True: true, False: false, None: null };

/** Returns the value that a text stands for, as JSON. */
function jsonOf(text: string, { text: mayBeText, other, choices }: Value): string {
  if (choices || !other) return JSON.stringify(text);
  const trimmed = text.trim();
  try {
    const value: unknown = Object.hasOwn(pythonWords, trimmed) ? pythonWords[trimmed] : JSON.parse(trimmed);
    // A text in quotation marks is one that has them, if texts stand as they are.
    if (typeof value !== "string" || !mayBeText) return JSON.stringify(value);
  } catch {
    // It is a text.
  }
  return JSON.stringify(text);
}

/** Reads one call. A parameter is given when it is complete. */
class TaggedCallScanner {
  readonly #index: number;
  readonly #tools: readonly Tool[];
  #held = "";
  #tool: Tool | null = null;
  /** Name of the parameter whose value is being read; null if none is. */
  #parameter: string | null = null;
  #parameters = 0;
  #named = false;
  done = false;

  constructor(index: number, tools: readonly Tool[]) {
    this.#index = index;
    this.#tools = tools;
  }

  push(text: string): { delta: ToolCallDelta | null; length: number } {
    this.#held += text;
    let added = "";
    let begun: { id: string; name: string } | null = null;
    if (!this.#named) {
      const [tag, name] = /^<function=([^>]*)>/.exec(this.#held) ?? [];
      if (tag === undefined) return { delta: null, length: text.length };
      this.#named = true;
      this.#held = this.#held.slice(tag.length);
      this.#tool = this.#tools.find((tool) => tool.name === name!.trim()) ?? null;
      begun = { id: callId(), name: name!.trim() };
      added = "{";
    }
    for (let next = this.#take(); next !== null; next = this.#take()) added += next;
    const length = text.length - (this.done ? this.#held.length : 0);
    if (!begun && added === "") return { delta: null, length };
    return { delta: { index: this.#index, ...begun, arguments: added }, length };
  }

  /** Takes the next tag or value; returns what it adds to the arguments, or null if it is not complete. */
  #take(): string | null {
    if (this.done) return null;
    if (this.#parameter !== null) return this.#value(this.#parameter);
    const rest = this.#held.trimStart();
    if (rest.startsWith(endOfCall)) {
      [this.#held, this.done] = [rest.slice(endOfCall.length), true];
      return "}";
    }
    const [tag, name] = /^<parameter=([^>]*)>/.exec(rest) ?? [];
    if (tag !== undefined) {
      [this.#held, this.#parameter] = [rest.slice(tag.length), name!.trim()];
      return "";
    }
    // What is neither is left out.
    if (rest === "" || endOfCall.startsWith(rest) || "<parameter=".startsWith(rest) || /^<parameter=[^>]*$/.test(rest))
      return null;
    this.#held = rest.slice(1);
    return "";
  }

  #value(name: string): string | null {
    const end = this.#held.indexOf(endOfValue);
    if (end < 0) return null;
    const text = this.#held.slice(0, end).replace(/^\n/, "").replace(/\n$/, "");
    this.#held = this.#held.slice(end + endOfValue.length);
    this.#parameter = null;
    const properties = this.#tool && propertiesOf(this.#tool);
    const root = this.#tool?.parameters ?? {};
    const value = properties?.has(name)
      ? valueOf(properties.get(name), root)
      : { choices: null, text: true, other: false };
    return `${this.#parameters++ === 0 ? "" : ", "}${JSON.stringify(name)}: ${jsonOf(text, value)}`;
  }
}
