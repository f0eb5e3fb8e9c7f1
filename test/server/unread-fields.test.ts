/** Fields that heed does not know: they are ignored by name, or refused by a server that is strict. */
import { expect, test } from "vitest";
import { validator } from "../../lib/server/json-schema.js";
import { chatCompletions } from "../../lib/server/chat-completions.js";
import { chatModel, start } from "./support.js";

const user = { role: "user", content: "Why?" };

test("they are ignored wherever they are, and named by the header and once in the log", async () => {
  const lines: string[] = [];
  const stream = { write: (line: string) => void lines.push(line) };
  const { post } = await start({ models: { tiny: chatModel() }, logger: { level: "warn", stream } });
  const messages = [
    { ...user, content: [{ type: "text", text: "Why?", cache_control: { type: "ephemeral" } }], extra: null },
    { role: "assistant", content: "So.", provider_specific_fields: {}, extra: 1 },
    user,
  ];
  const base = { max_tokens: 3, temperature: 0 };
  const ask = (body: object): Promise<Response> => post("/v1/chat/completions", { ...base, ...body });
  const odd = { "größe\n": 1, constructor: 2 };
  const answers = [await ask({ messages, top_a: 0, transforms: [], ...odd }), await ask({ messages, top_a: 0 })];
  expect(answers.map(({ status }) => status)).toEqual([200, 200]);
  const names = ["top_a", "transforms", "gr%C3%B6%C3%9Fe%0A", "constructor"];
  const inside = ["messages[].extra", "messages[].content[].cache_control", "messages[].provider_specific_fields"];
  const headerOf = ({ headers }: Response): string[] => headers.get("x-heed-ignored")!.split(", ").sort();
  expect(headerOf(answers[0]!)).toEqual([...names, ...inside].sort());
  expect(headerOf(answers[1]!)).toEqual(["top_a", ...inside].sort());
  expect(lines.filter((line) => line.includes('"field":"top_a"'))).toHaveLength(1);
  expect(lines.filter((line) => line.includes('"field":'))).toHaveLength(7);
  // The answer is the same as without them, whose header is not there.
  const plain = [{ ...user, content: [{ type: "text", text: "Why?" }] }, { role: "assistant", content: "So." }, user];
  const without = await ask({ messages: plain });
  expect(without.headers.get("x-heed-ignored")).toBeNull();
  const { choices } = (await without.json()) as { choices: object[] };
  expect(await answers[0]!.json()).toMatchObject({ choices });
});

test("a strict server refuses them by name, and both keep ranges and types", async () => {
  const strict = await start({ models: { tiny: chatModel() }, strict: true });
  const body = { messages: [{ ...user, colour: "red" }], max_tokens: 1 };
  const refused = await strict.post("/v1/chat/completions", body);
  expect(refused.status).toBe(400);
  const error = { code: "unknown_parameter", param: "messages.0.colour", type: "invalid_request_error" };
  expect(await refused.json()).toMatchObject({ error });
  const lenient = await start({ models: { tiny: chatModel() } });
  const wrong = await lenient.post("/v1/chat/completions", { ...body, temperature: 9 });
  expect([wrong.status, wrong.headers.get("x-heed-ignored")]).toEqual([400, null]);
});

test("many names cost little, and sixteen of them are named", () => {
  const check = validator(chatCompletions.schema);
  const many = Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`${"x".repeat(200)}${i}`, i]));
  const { error, ignored } = check({ messages: [user], ...many });
  expect(error).toBeNull();
  expect(ignored).toHaveLength(16);
  for (const name of ignored) expect(name.length).toBeLessThanOrEqual(100);
});
