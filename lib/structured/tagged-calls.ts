// Calls of tools with a tag for each parameter: strings stand as they are, and other values are JSON. Qwen3-Coder's form is
//
//   <tool_call>
//   <function=weather>
//   <parameter=city>
//   Rome
//   </parameter>
//   </function>
//   </tool_call>
//
// and GLM, MiniMax and DeepSeek V3.2 have others.
import type { Tool } from "../tokenizer/tools.js";
import type { Steps } from "../util/turns.js";
import { longestHead, mostFurther, type Scanned, type Scanner, type ToolFormat } from "./call-format.js";
import { callId } from "./call-scanner.js";
import { jsonOf, jsonValue, membersOfJson, propertiesOf, propertiesOrNone, requiredOf, undeclared, type Value, valueOf, valueOrAnything } from "./call-values.js"; // prettier-ignore
import { anyOf, empty, type Expression, literal, optionalPart, repeat, sequence, sequenceOf } from "./expression.js";
import { textUntil } from "./free-text.js";
import { inputOf } from "./tool-input.js";

/** Texts of a form. Those with a name are functions that write it. */
export interface Tags {
  readonly marker: string;
  /** Text between the marker and the first call. */
  readonly first: string;
  /** Text between two calls, and after the last. */
  readonly between: string;
  readonly last: string;
  readonly around: readonly string[];
  readonly begin: string | RegExp;
  /** Beginning of a call, whose group is the name. */
  readonly call: RegExp;
  /** Beginning of a parameter, whose first group is the name; the second says if the value is a string, if there is one. */
  readonly parameter: RegExp;
  /** Beginning of every parameter. */
  readonly parameterBegin: string;
  /** White space that a value begins and ends with besides its own. */
  readonly padding: string;
  readonly endOfValue: string;
  readonly endOfCall: string;
  readonly writeCall: (name: string) => string;
  readonly writeParameter: (name: string, text: boolean) => string;
  /** Text after a value's end. */
  readonly afterValue: string;
}

/** Tags of Qwen3-Coder. */
export const qwenTags: Tags = {
  ...{ marker: "<tool_call>", first: "\n", between: "\n</tool_call>\n<tool_call>\n", last: "\n</tool_call>" },
  ...{ around: ["</tool_call>", "<tool_call>"], begin: "<function=", parameterBegin: "<parameter=", padding: "\n" },
  ...{ call: /^<function=([^>]*)>/, parameter: /^<parameter=([^>]*)>/ },
  ...{ endOfValue: "</parameter>", endOfCall: "</function>", afterValue: "\n" },
  writeCall: (name) => `<function=${name}>\n`,
  writeParameter: (name) => `<parameter=${name}>`,
};

/** Returns the tags of GLM; from 4.7 on, there are no line breaks between them. */
export function glmTags(lines: boolean): Tags {
  const line = lines ? "\n" : "";
  return {
    ...{ marker: "<tool_call>", first: "", between: `${line}<tool_call>`, last: "" },
    ...{ around: ["<tool_call>"], begin: /^[\w.-]/, parameterBegin: "<arg_key>", padding: "" },
    ...{ call: /^([\w.-]+)(?=[\s<])/, parameter: /^<arg_key>([^<]*)<\/arg_key>\s*<arg_value>/ },
    ...{ endOfValue: "</arg_value>", endOfCall: "</tool_call>", afterValue: line },
    writeCall: (name) => name + line,
    writeParameter: (name) => `<arg_key>${name}</arg_key>${line}<arg_value>`,
  };
}

/** Tags of MiniMax M2. */
export const minimaxTags: Tags = {
  ...{ marker: "<minimax:tool_call>", first: "\n", between: "\n", last: "\n</minimax:tool_call>" },
  ...{ around: ["</minimax:tool_call>", "<minimax:tool_call>"], begin: "<invoke name=", padding: "" },
  ...{ call: /^<invoke name="([^"]*)">/, parameter: /^<parameter name="([^"]*)">/ },
  ...{ parameterBegin: "<parameter name=", endOfValue: "</parameter>", endOfCall: "</invoke>", afterValue: "\n" },
  writeCall: (name) => `<invoke name="${name}">\n`,
  writeParameter: (name) => `<parameter name="${name}">`,
};

/** Tags of DeepSeek V3.2. */
export const deepseekTags: Tags = {
  ...{ marker: "<｜DSML｜function_calls>", first: "\n", between: "\n", last: "\n</｜DSML｜function_calls>" },
  ...{ around: ["</｜DSML｜function_calls>"], begin: "<｜DSML｜invoke name=", padding: "" },
  call: /^<｜DSML｜invoke name="([^"]*)">/,
  parameter: /^<｜DSML｜parameter name="([^"]*)"(?: string="(true|false)")?>/,
  ...{ parameterBegin: "<｜DSML｜parameter name=", endOfValue: "</｜DSML｜parameter>" },
  ...{ endOfCall: "</｜DSML｜invoke>", afterValue: "\n" },
  writeCall: (name) => `<｜DSML｜invoke name="${name}">\n`,
  writeParameter: (name, text) => `<｜DSML｜parameter name="${name}" string="${text}">`,
};

/** Tags of values that are tokens of their own in the vocabulary of GLM. */
const valueTags = ["<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"];

/** Returns the format; the schemas of the tools say what the values of their parameters are. */
export function taggedCalls(tags: Tags, tools: readonly Tool[]): ToolFormat {
  const { marker, first, between, last, around, begin } = tags;
  return {
    ...{ marker, around, begin, bare: null, declares: true, names: [marker, ...around, ...valueTags, tags.endOfCall] },
    scanner: (index) => new TaggedCallScanner(index, tools, tags),
    call: (tool) => taggedCall(tool, tags),
    calls: (call, several) =>
      sequence(
        literal(first),
        call,
        several ? repeat(sequence(literal(between), call), 0, mostFurther) : empty,
        literal(last),
      ),
    write(calls) {
      const written = calls.map((call) => {
        const parameters = membersOfJson(call.arguments).map(([name, value]) => {
          const isText = typeof value === "string";
          const text = isText ? value : JSON.stringify(value);
          return `${tags.writeParameter(name, isText)}${tags.padding}${text}${tags.padding}${tags.endOfValue}${tags.afterValue}`;
        });
        return `${tags.writeCall(call.name)}${parameters.join("")}${tags.endOfCall}`;
      });
      return marker + first + written.join(between) + last;
    },
  };
}

function* taggedCall(tool: Tool, tags: Tags): Steps<Expression> {
  const root = tool.parameters ?? {};
  const required = requiredOf(tool);
  const all: Expression[] = [];
  for (const [name, schema] of propertiesOf(tool)) {
    const value = valueOf(schema, root);
    const begin = tags.writeParameter(name, value.text && !value.other) + tags.padding;
    const parameter = sequence(literal(begin), yield* valueExpression(schema, value, tool, tags));
    all.push(required.has(name) ? parameter : optionalPart(parameter));
  }
  return sequenceOf([literal(tags.writeCall(tool.name)), ...all, literal(tags.endOfCall)]);
}

/** Returns a value with the tag that ends it. Of strings, other keywords than `enum` and `const` are not enforced. */
function* valueExpression(
  schema: unknown,
  { choices, text }: Value,
  tool: Tool,
  { padding, endOfValue, afterValue }: Tags,
): Steps<Expression> {
  const end = literal(padding + endOfValue + afterValue);
  const input = yield* inputOf(tool);
  if (input) return sequence(input, end);
  if (choices) return sequence(yield* anyOf(choices.map(literal)), end);
  if (text) return textUntil(endOfValue, literal(afterValue), false);
  return sequence(yield* jsonValue(schema, tool), end);
}

/** Reads one call. A parameter is given when it is complete. */
class TaggedCallScanner implements Scanner {
  readonly #index: number;
  readonly #tools: readonly Tool[];
  readonly #tags: Tags;
  #held = "";
  #tool: Tool | null = null;
  /** Parameter whose value is being read; null if none is. */
  #parameter: { readonly name: string; readonly isText: boolean | null } | null = null;
  #parameters = 0;
  #named = false;
  done = false;

  constructor(index: number, tools: readonly Tool[], tags: Tags) {
    this.#index = index;
    this.#tools = tools;
    this.#tags = tags;
  }

  push(text: string): Scanned {
    this.#held += text;
    let added = "";
    let begun: { id: string; name: string } | null = null;
    if (!this.#named) {
      const [tag, name] = this.#tags.call.exec(this.#held) ?? [];
      if (tag === undefined) {
        return { delta: null, length: text.length, rejected: this.#held.length > longestHead };
      }
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
    const { endOfCall, parameter, parameterBegin } = this.#tags;
    const rest = this.#held.trimStart();
    if (rest.startsWith(endOfCall)) {
      [this.#held, this.done] = [rest.slice(endOfCall.length), true];
      return "}";
    }
    const [tag, name, isText] = parameter.exec(rest) ?? [];
    if (tag !== undefined) {
      this.#held = rest.slice(tag.length);
      this.#parameter = { name: name!.trim(), isText: isText === undefined ? null : isText === "true" };
      return "";
    }
    // What is neither is left out.
    const begun = rest.startsWith(parameterBegin) && rest.length < parameterBegin.length + 300;
    if (rest === "" || endOfCall.startsWith(rest) || parameterBegin.startsWith(rest) || begun) return null;
    this.#held = rest.slice(1);
    return "";
  }

  #value({ name, isText }: { readonly name: string; readonly isText: boolean | null }): string | null {
    const { endOfValue, padding } = this.#tags;
    const end = this.#held.indexOf(endOfValue);
    if (end < 0) return null;
    let text = this.#held.slice(0, end);
    if (padding === "\n") text = text.replace(/^\n/, "").replace(/\n$/, "");
    this.#held = this.#held.slice(end + endOfValue.length);
    this.#parameter = null;
    const properties = this.#tool && propertiesOrNone(this.#tool);
    const declared = properties?.has(name)
      ? valueOrAnything(properties.get(name), this.#tool?.parameters ?? {})
      : undeclared;
    const value = isText === null ? declared : { choices: null, text: isText, other: !isText };
    return `${this.#parameters++ === 0 ? "" : ", "}${JSON.stringify(name)}: ${jsonOf(text, value)}`;
  }
}
