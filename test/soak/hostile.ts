/**
 * Requests that want to stop a server, or to take all its memory: those of a list, and valid ones with a few values
 * replaced by hostile ones. Each is answered or refused, in a message of reasonable length. What it costs the server's
 * event loop and its memory is measured in the server's process.
 */
import { ok } from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../support/random.js";
import { apiKeys, bodyLimit } from "./http-settings.js";
import type { Client, Lane } from "./http-lane.js";
import { pick } from "./world.js";

/** Longest answer that refuses a request, in characters: it must not repeat what the client sent. */
const longestRefusal = 4096;

const text = (random: Random, most: number, piece = "x"): string => piece.repeat(1 + random.integer(most));
const nested = (depth: number, open: string, close: string, inside = ""): string =>
  open.repeat(depth) + inside + close.repeat(depth);
const user = (content: unknown): object[] => [{ role: "user", content }];

/** A conversation that is answered in JSON of a schema, as a text, because some schemas are too deep for `JSON.stringify`. */
const withSchema = (schema: string): string =>
  `{"messages":[{"role":"user","content":"a"}],"max_tokens":4,"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":${schema}}}}`;
const withTool = (parameters: string): string =>
  `{"messages":[{"role":"user","content":"a"}],"max_tokens":4,"tools":[{"type":"function","function":{"name":"f","parameters":${parameters}}}]}`;
const withPattern = (pattern: string): string => withSchema(JSON.stringify({ type: "string", pattern }));

/** A body for `path` whose sizes are random. */
type Attack = readonly [path: string, body: (random: Random) => string];
const chat = "/v1/chat/completions";

const attacks: readonly Attack[] = [
  // Patterns that are small and whose automata are not.
  [chat, () => withPattern("^(?:(?:){0,100000}){0,100000}$")],
  [chat, (random) => withPattern(nested(random.integer(400), "(?:", "){0,400}", "a"))],
  [chat, (random) => withPattern(`(?:(?:){0,${random.integer(500)}}){0,${random.integer(500)}}a`)],
  [chat, (random) => withPattern("(?:a{0}|)".repeat(random.integer(4000)))],
  [chat, (random) => withPattern(`(a|b)*a(a|b){${random.integer(64)}}$`)],
  [chat, (random) => withPattern(`[^\\x00-\\x7f]{${random.integer(20_000)}}`)],
  [chat, (random) => withPattern(Array.from({ length: random.integer(3000) }, (_, i) => `w${i}x*`).join("|"))],
  [chat, (random) => withPattern(`^(?=.*a{${random.integer(40)}})(?=.*b{${random.integer(40)}}).*$`)],
  [chat, (random) => withPattern(nested(random.integer(10_000), "(", ")"))],
  // Schemas that are deep, wide or refer to themselves.
  [chat, (random) => withSchema(nested(random.integer(20_000), '{"items":', "}", "{}"))],
  [chat, (random) => withSchema(nested(random.integer(20_000), '{"properties":{"a":', "}}", "true"))],
  [chat, (random) => withSchema(nested(random.integer(3000), '{"anyOf":[{},', "]}", "{}"))],
  [chat, () => withSchema('{"$ref":"#"}')],
  [chat, () => withSchema('{"allOf":[{"$ref":"#"},{"$ref":"#"}]}')],
  [chat, () => withSchema('{"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"}]}},"$ref":"#/$defs/a"}')],
  [
    chat,
    (random) => withSchema(JSON.stringify({ enum: Array.from({ length: random.integer(40_000) }, (_, i) => `v${i}`) })),
  ],
  [chat, (random) => withSchema(JSON.stringify({ const: text(random, 1_000_000) }))],
  [chat, (random) => withSchema(JSON.stringify(objectOf(random.integer(5000))))],
  [
    chat,
    (random) =>
      withSchema(JSON.stringify({ anyOf: Array.from({ length: random.integer(1000) }, (_, i) => objectOf(5, i)) })),
  ],
  [
    chat,
    (random) => withSchema(JSON.stringify({ type: "array", minItems: random.integer(2 ** 31), items: objectOf(3) })),
  ],
  [chat, (random) => withSchema(JSON.stringify({ type: "string", maxLength: 10 ** random.integer(300) }))],
  [
    chat,
    (random) =>
      withSchema(JSON.stringify({ multipleOf: 10 ** -random.integer(300), maximum: 10 ** random.integer(300) })),
  ],
  [chat, (random) => withTool(nested(random.integer(20_000), '{"items":', "}", "{}"))],
  [
    chat,
    (random) => {
      const tools = Array.from({ length: random.integer(2000) }, (_, i) => ({
        ...{ type: "function", function: { name: `f${i}`, parameters: objectOf(8, i) } },
      }));
      return JSON.stringify({ messages: user("a"), max_tokens: 4, tools });
    },
  ],
  // Many answers, long stop texts, long names, many numbers.
  [
    "/v1/completions",
    (random) =>
      JSON.stringify({
        prompt: Array<string>(1 + random.integer(128)).fill(text(random, 25_000)),
        n: 128,
        max_tokens: 4,
      }),
  ],
  [
    "/v1/completions",
    () => JSON.stringify({ prompt: Array<string>(128).fill("a"), n: 128, max_tokens: 100, logprobs: 20 }),
  ],
  ["/v1/completions", (random) => JSON.stringify({ prompt: "a", max_tokens: 8, stop: text(random, 1_000_000, "ab") })],
  [
    "/v1/completions",
    (random) => JSON.stringify({ prompt: "a", max_tokens: 8, stop: Array(16).fill(text(random, 2000)) }),
  ],
  ["/v1/completions", (random) => JSON.stringify({ prompt: "a", model: text(random, bodyLimit - 100) })],
  [
    "/v1/completions",
    (random) => {
      const bias = Array.from({ length: random.integer(200_000) }, (_, i) => [String(i), 1]);
      return JSON.stringify({ prompt: "a", max_tokens: 4, logit_bias: Object.fromEntries(bias) as unknown });
    },
  ],
  ["/v1/completions", (random) => JSON.stringify({ prompt: text(random, 1_000_000), max_tokens: 4 })],
  ["/v1/completions", (random) => JSON.stringify({ prompt: text(random, 500_000, " "), max_tokens: 4 })],
  ["/v1/completions", (random) => JSON.stringify({ prompt: text(random, 100_000, "👩‍👩‍👧\n"), max_tokens: 4 })],
  // Conversations with many turns, many parts, and contents that look like the template's own.
  [chat, (random) => JSON.stringify({ messages: Array(1 + random.integer(20_000)).fill(user("a")[0]), max_tokens: 4 })],
  [
    chat,
    (random) =>
      JSON.stringify({
        messages: user(Array(random.integer(20_000)).fill({ type: "text", text: "a" })),
        max_tokens: 4,
      }),
  ],
  [chat, (random) => JSON.stringify({ messages: user(text(random, 100_000, "<|end|>{{ 1 }}")), max_tokens: 4 })],
  [chat, (random) => `{"messages":[{"role":"user","content":${nested(random.integer(100_000), "[", "]")}}]}`],
  ["/v1/responses", (random) => JSON.stringify({ input: text(random, 500_000), max_output_tokens: 4 })],
  [
    "/v1/embeddings",
    (random) => JSON.stringify({ input: Array(random.integer(4000)).fill("the whale"), model: "embedder" }),
  ],
  ["/v1/embeddings", (random) => JSON.stringify({ input: text(random, 1_000_000, "whale "), model: "embedder" })],
  ["/tokenize", (random) => JSON.stringify({ prompt: text(random, bodyLimit / 2 - 100, "ab") })],
  ["/tokenize", (random) => JSON.stringify({ prompt: text(random, 300_000, "a-") })],
];

/** A schema of an object with `count` properties. */
function objectOf(count: number, which = 0): object {
  const types = ["string", "number", "boolean"];
  const properties = Array.from({ length: count }, (_, i) => [`p${which}_${i}`, { type: types[i % 3] }]);
  return { type: "object", properties: Object.fromEntries(properties) as object, additionalProperties: false };
}

/** Valid requests with many fields. */
const valid: readonly (readonly [path: string, body: object])[] = [
  [
    "/v1/completions",
    {
      model: "cpu",
      prompt: ["a", "b"],
      max_tokens: 4,
      n: 2,
      stop: ["x", "yz"],
      logprobs: 2,
      logit_bias: { 5: 1 },
      seed: 1,
      temperature: 1,
      top_p: 0.5,
      stream: false,
    },
  ],
  [
    chat,
    {
      ...{ model: "cpu", max_tokens: 4, logprobs: true, top_logprobs: 2, stop: "x", user: "u", tool_choice: "auto" },
      messages: [
        { role: "system", content: "s" },
        { role: "user", content: [{ type: "text", text: "a" }] },
        {
          role: "assistant",
          content: null,
          tool_calls: [{ id: "1", type: "function", function: { name: "f", arguments: "{}" } }],
        },
        { role: "tool", tool_call_id: "1", content: "b" },
      ],
      tools: [{ type: "function", function: { name: "f", description: "d", parameters: objectOf(3) } }],
    },
  ],
  [
    chat,
    {
      ...{ model: "cpu", max_tokens: 4, messages: user("a"), stream: true, stream_options: { include_usage: true } },
      response_format: {
        type: "json_schema",
        json_schema: {
          name: "s",
          schema: {
            type: "object",
            properties: {
              a: { type: "string", pattern: "^[a-z]{1,3}$" },
              b: { type: "array", items: { enum: [1, "x", null] }, maxItems: 3 },
            },
            required: ["a"],
            additionalProperties: { type: "integer", minimum: 1, maximum: 99 },
          },
        },
      },
    },
  ],
  ["/v1/responses", { model: "cpu", input: [{ role: "user", content: "a" }], max_output_tokens: 4, instructions: "i" }],
  ["/v1/embeddings", { model: "embedder", input: ["the whale", "a"], encoding_format: "float" }],
  ["/tokenize", { model: "cpu", prompt: "hello" }],
];

/** Values in place of any other. */
const strange: readonly ((random: Random) => unknown)[] = [
  ...[null, true, -1, 0, 1e308, 2 ** 53, -0.5, "", "\ud800", "__proto__", [], {}].map((value) => () => value),
  (random) => text(random, 200_000),
  (random) => text(random, 20_000, "(a|"),
  (random) => Array(random.integer(20_000)).fill(random.integer(300)) as unknown,
  (random) => JSON.parse(nested(random.integer(1000), "[", "]", "1")) as unknown,
  (random) => JSON.parse(nested(random.integer(600), '{"anyOf":[', "]}", "{}")) as unknown,
  (random) => objectOf(random.integer(2000)),
  (random) => ({ [text(random, 100_000)]: 1 }),
  (random) => `^(?:${text(random, 300, "(?:a?){0,30}")})*$`,
];

/** Returns a valid body with one to three values replaced, left out, repeated or added. */
function mutated(random: Random, body: object): unknown {
  const copy = structuredClone(body) as Record<string, unknown>;
  for (let count = 1 + random.integer(3); count > 0; count--) {
    let holder: Record<string, unknown> = copy;
    for (;;) {
      const names = Object.keys(holder);
      if (names.length === 0) break;
      const name = pick(random, names);
      const value = holder[name];
      if (typeof value === "object" && value !== null && random.integer(4) > 0) {
        holder = value as Record<string, unknown>;
        continue;
      }
      const change = random.integer(8);
      if (change === 0) Reflect.deleteProperty(holder, name);
      else if (change === 1) holder[`${name}_`] = value;
      else if (change === 2 && Array.isArray(value)) holder[name] = repeated(random.integer(3000), value[0]);
      else holder[name] = pick(random, strange)(random);
      break;
    }
  }
  return copy;
}

/** Returns an array of equal values, fewer than `count` if these are large: a text has at most 512 MB. */
function repeated(count: number, value: unknown): unknown[] {
  const length = JSON.stringify(value ?? null).length;
  return Array(Math.min(count, Math.ceil(8_000_000 / length))).fill(value) as unknown[];
}

const mutations = valid.map(([path, body]): Attack => [path, (random) => JSON.stringify(mutated(random, body))]);

/** Checks that an answer is one, or a refusal that says why in few words. */
function checkAnswer(lane: Lane, body: string, status: number, received: string, broken: boolean): void {
  const said = `${status} for ${body.slice(0, 200)}: ${received.slice(0, 500)}`;
  if (status === 200) return;
  ok(received.length <= longestRefusal, `a refusal of ${received.length} characters, ${said}`);
  const { error } = JSON.parse(received) as { error: { message: string; code: string | null } };
  ok(error.message.length > 0, said);
  const isBusy = status === 429 || (status === 503 && ["overloaded", "out_of_memory"].includes(String(error.code)));
  ok(isBusy || broken || (status >= 400 && status < 500), said);
  lane.refused(`hostile ${status}`);
}

/** Sends a hostile request, and reads the answer or leaves before it. */
export const attack: Client = async (lane) => {
  const { random } = lane;
  const [path, make] = pick(random, random.integer(2) ? attacks : mutations);
  const body = make(random);
  const was = lane.broken();
  const leaving = random.integer(4) === 0 ? AbortSignal.timeout(1 + random.integer(100)) : null;
  try {
    const response = await fetch(lane.url + path, {
      ...{ method: "POST", body, signal: leaving },
      headers: { "content-type": "application/json", authorization: `Bearer ${pick(random, apiKeys)}` },
    });
    checkAnswer(lane, body, response.status, await response.text(), was || lane.broken());
  } catch (error) {
    if (!leaving?.aborted) throw error;
    await sleep(random.integer(20));
  }
};
