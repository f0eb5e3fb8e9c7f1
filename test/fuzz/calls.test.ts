/** Calls of tools in all forms: what is written is read again, and in whatever pieces an answer comes, it is the same. */
import fc from "fast-check";
import { expect } from "vitest";
import { reasoningOf } from "../../lib/structured/answer.js";
import { generalFormat, toolFormatOf } from "../../lib/structured/tool-format.js";
import type { Tool } from "../../lib/tokenizer/tools.js";
import { callTemplates, read } from "../structured/call-templates.js";
import { fuzz } from "./fuzz.js";

const families = { ...callTemplates, general: "" };
const family = fc.constantFrom(...(Object.keys(families) as (keyof typeof families)[]));

const pieces = (text: string, sizes: readonly number[]): string[] => {
  const found: string[] = [];
  for (let [at, i] = [0, 0]; at < text.length; at += sizes[i++ % sizes.length]!)
    found.push(text.slice(at, at + sizes[i % sizes.length]!));
  return found;
};
const sizes = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 6 });

/** Texts without the marks of any form: they would end a value that stands as it is. */
const word = fc.string({ unit: fc.constantFrom(..."ab \"'{}[](),:=\\1é😀\n".match(/./gsu)!), maxLength: 12 });
const name = fc.constantFrom("a", "b_1", "city", "days");
const value = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 2 },
    word,
    fc.integer(),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie("value"), { maxLength: 3 }),
    fc.dictionary(name, tie("value"), { maxKeys: 3 }),
  ),
})).value;
const calls = fc.array(fc.record({ name: fc.constantFrom("weather", "get.time"), given: fc.dictionary(name, value, { maxKeys: 3 }) }), { minLength: 1, maxLength: 3 }); // prettier-ignore

/** Parameters that may be anything are read by their forms, so each has the type of its value. */
function toolsFor(all: readonly { name: string; given: Record<string, unknown> }[]): Tool[] {
  return all.map(({ name, given }, i) => {
    const typeOf = (one: unknown): object => (typeof one === "string" ? { type: "string" } : { not: { type: "string" }, type: ["object", "array", "number", "boolean", "null"] }); // prettier-ignore
    const properties = Object.fromEntries(Object.entries(given).map(([key, one]) => [key, typeOf(one)]));
    return { name: `${name}${i}`, parameters: { type: "object", properties } };
  });
}

fuzz(
  "calls are read as they are written",
  fc.tuple(family, calls, sizes),
  { ci: 300, nightly: 100_000 },
  ([of, all, cuts]) => {
    const tools = toolsFor(all);
    // A line break at an end of a value is one of the form in Qwen3-Coder's tags.
    const named = all.map(({ given }, i) => ({ name: tools[i]!.name, given }));
    const format = toolFormatOf(families[of], tools) ?? generalFormat;
    const text = format.write(named.map(({ name, given }) => ({ name, arguments: JSON.stringify(given) })));
    const found = read({ reasoning: null, open: false, tools: format }, pieces(text, cuts));
    expect({ text: found.text, calls: found.calls.map(({ name, arguments: given }) => ({ name, given: JSON.parse(given) as unknown })) }, text) // prettier-ignore
      .toEqual({ text: "", calls: named });
  },
);

const marks = [
  ...["<tool_call>", "</tool_call>", "<think>", "</think>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "<function=f>"],
  ...["<parameter=a>", "</parameter>", "</function>", "<arg_key>a</arg_key>", "<arg_value>", "</arg_value>", "f"],
  ...[
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "function<｜tool▁sep｜>f",
    "```json",
    "```",
    "<｜tool▁call▁end｜>",
  ],
  ...[
    "<|tool_call>",
    "call:f{",
    '<|"|>',
    "<tool_call|>",
    "<|tool_call_start|>",
    "f(a=",
    "<|tool_call_end|>",
    "functools",
  ],
  ...['{"name": "f", "arguments": {}}', '{"name": "f", "parameters": {"a": "b"}}', '{"a": 1}', "[", "]", "{", "}", ","],
  ...[" ", "\n", "x", "<", "<|", "</", "; ", '"', "(", ")", ":", "=", "'", "\\"],
];
fuzz(
  "an answer is the same in whatever pieces it comes",
  fc.tuple(family, fc.array(fc.constantFrom(...marks), { maxLength: 12 }), sizes),
  { ci: 500, nightly: 200_000 },
  ([of, parts, cuts]) => {
    const tools = [{ name: "f" }];
    const reasoning = reasoningOf(families[of]);
    const form = { reasoning, open: false, tools: toolFormatOf(families[of], tools) ?? generalFormat };
    const text = parts.join("");
    expect(read(form, pieces(text, cuts)), text).toEqual(read(form, [text]));
  },
);
