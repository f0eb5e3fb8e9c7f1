/** Adapters of a served model: clients choose them as models. */
import OpenAI from "openai";
import { expect, test } from "vitest";
import { addAdapter } from "../../lib/adapters/adapters.js";
import { unloadAdapter } from "../../lib/adapters/adapter-uses.js";
import { shakeAdapter } from "../adapters/support.js";
import { chatModel, embeddingModel, start } from "./support.js";

const model = chatModel();
for (const name of ["polite", "brief", "tiny"]) {
  addAdapter(model.model, { name, rank: 3, seed: name.length, active: false });
  shakeAdapter(model.model, name);
}
const messages = [{ role: "user" as const, content: "Why?" }];

test("OpenAI's client lists adapters, chooses them by name, and loses those that are unloaded", async () => {
  const server = await start({ models: { tiny: model, minilm: embeddingModel() } });
  const openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
  const listed = async () =>
    (await openai.models.list()).data.map(({ id, ...rest }) => [id, (rest as { parent?: string }).parent]);
  // The adapter with the name of the model cannot be chosen.
  expect(await listed()).toEqual([
    ["tiny", undefined],
    ["minilm", undefined],
    ["polite", "tiny"],
    ["brief", "tiny"],
  ]);
  expect(await openai.models.retrieve("polite")).toMatchObject({ id: "polite", parent: "tiny" });
  const body = { messages, max_completion_tokens: 12, temperature: 0 };
  const texts = await Promise.all(
    ["tiny", "polite", "brief"].map(async (name) => {
      const { model: answered, choices } = await openai.chat.completions.create({ ...body, model: name });
      expect(answered).toBe(name);
      return choices[0]!.message.content;
    }),
  );
  const expected = [];
  for (const adapter of [null, "polite", "brief"])
    expected.push((await model.chat(messages, { maxTokens: 12, temperature: 0, adapter })).text);
  expect(texts).toEqual(expected);
  expect(new Set(texts).size).toBe(3);
  let streamed = "";
  const stream = await openai.completions.create({
    ...{ model: "polite", prompt: "Call me", max_tokens: 8, temperature: 0, stream: true },
  });
  for await (const { choices } of stream) streamed += choices[0]!.text;
  expect(streamed).toBe((await model.generate("Call me", { maxTokens: 8, temperature: 0, adapter: "polite" })).text);
  const figures = async (): Promise<string> => (await fetch(`${server.url}/metrics`)).text();
  expect(await figures()).toMatch(/heed_completion_tokens_total\{model="polite"\} \d+/);
  await unloadAdapter(model.model, "polite");
  expect(await figures()).not.toContain("polite");
  expect(await figures()).toMatch(/heed_answers_total\{model="brief",finish_reason="length"\} 1/);
  expect((await listed()).map(([id]) => id)).toEqual(["tiny", "minilm", "brief"]);
  await expect(openai.chat.completions.create({ ...body, model: "polite" })).rejects.toThrow(/"polite" does not exist/);
});
