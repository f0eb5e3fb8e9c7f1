/** Texts of a model that have to have a form, through the engine and without it. */
import { Ajv2020 } from "ajv/dist/2020.js";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Engine } from "../../lib/engine/engine.js";
import { generate } from "../../lib/generate/generate-text.js";
import type { OutputFormat } from "../../lib/structured/output-format.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { devices, smallGpt } from "../generate/models.js";
import { expectError, expectRejection } from "../support/errors.js";
import { nightly } from "../support/nightly.js";
import { orCpu } from "../support/targets.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";
import { schemas } from "./random-schemas.js";

const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" } });
const person: OutputFormat = {
  type: "json-schema",
  schema: {
    type: "object",
    properties: {
      name: { type: "string", maxLength: 8 },
      age: { type: "integer", minimum: 0, maximum: 120 },
      kind: { enum: ["a", "b"] },
    },
    required: ["name", "age", "kind"],
  },
};
const ajv = new Ajv2020({ strict: false, validateFormats: false });
const sampled = { temperature: 1.2, maxTokens: 90 };

describe.each(devices)("on %s", (device) => {
  const model = smallGpt(orCpu(device), { vocabularySize: 272, contextLength: 128 });

  test("a text alone is the text in a batch, and both match", async () => {
    await using engine = new Engine(model, { tokenizer, maxSequences: 4 });
    const formats: (OutputFormat | null)[] = [
      { type: "choice", choices: ["yes", "no"] },
      null,
      { type: "regex", pattern: "[a-c]{3,9}\\d" },
      // They are long, and the software device is slow. It has them in the next test.
      ...(device === "cpu" ? [person, person] : []),
    ];
    const ask = (format: OutputFormat | null, seed: number) => ({
      prompt: "Tell me",
      seed,
      format,
      logprobs: 2,
      ...sampled,
      // Without a form, a text ends only where it must.
      ...(format === null && { maxTokens: 25 }),
    });
    const together = await Promise.all(formats.map((format, seed) => engine.generate(ask(format, seed))));
    for (const [seed, format] of formats.entries()) {
      const alone = await engine.generate(ask(format, seed));
      expect(alone).toEqual(together[seed]);
      const { logprobs: _, ...plain } = ask(format, seed);
      expect((await generate(model, tokenizer, "Tell me", plain)).tokens).toEqual(alone.tokens);
      expect(alone.logprobs).toHaveLength(alone.tokens.length);
    }
    const [choice, , expression, ...people] = together;
    for (const one of people) {
      expect(one.finishReason).toBe("stop");
      expect(ajv.validate((person as { schema: object }).schema, JSON.parse(one.text))).toBe(true);
    }
    expect(["yes", "no"]).toContain(choice!.text);
    expect(expression!.text).toMatch(/^[a-c]{3,9}\d$/);
  });

  test("several texts of a prompt, with speculation and few pages", async () => {
    // Two texts of this length do not fit into 18 pages, so that they take them from each other. The software device is
    // too slow to compute so much again.
    const { layers, kvHeads } = model.config;
    const few = { kvMemory: 18 * 8 * 2 * layers * kvHeads * model.headSize * 4 };
    const pages = { pageSize: 8, ...(device === "cpu" && few) };
    await using engine = new Engine(model, { tokenizer, speculation: "ngram", maxSequences: 6, ...pages });
    const body = { prompt: "abcabcabcabcabc", n: 3, seed: 1, format: person, ...sampled };
    const { choices } = await engine.generate(body);
    await using plain = new Engine(model, { tokenizer });
    expect((await plain.generate(body)).choices).toEqual(choices);
    for (const { text, finishReason } of choices) if (finishReason === "stop") JSON.parse(text);
    expect(choices.some(({ finishReason }) => finishReason === "stop")).toBe(true);
    if (device === "cpu") expect(engine.metrics.preemptions).toBeGreaterThan(0);
  });
});

const model = smallGpt("cpu", { vocabularySize: 272, contextLength: 640 });

test("texts of random schemas are valid", async () => {
  await using engine = new Engine(model, { tokenizer, maxSequences: 16 });
  const count = nightly ? 1000 : 24;
  const given = fc.sample(schemas, { numRuns: count, seed: 7 });
  const answers = await Promise.all(
    given.map((schema, seed) =>
      engine.generate({ prompt: "x", seed, temperature: 1.5, maxTokens: 500, format: { type: "json-schema", schema } }),
    ),
  );
  for (const [i, { text, finishReason }] of answers.entries())
    if (finishReason === "stop")
      expect(ajv.validate(given[i]!, JSON.parse(text)), `${JSON.stringify(given[i])}: ${text}`).toBe(true);
  expect(answers.filter(({ finishReason }) => finishReason === "stop").length).toBeGreaterThan(0.8 * count);
});

test("a text that was cut by its length is the beginning of one that matches", async () => {
  await using engine = new Engine(model, { tokenizer });
  const whole = await engine.generate({ prompt: "x", seed: 4, format: person, temperature: 1, maxTokens: 90 });
  const cut = await engine.generate({ prompt: "x", seed: 4, format: person, temperature: 1, maxTokens: 9 });
  expect(cut.finishReason).toBe("length");
  expect(whole.text.startsWith(cut.text)).toBe(true);
  const parts: string[] = [];
  for await (const { text } of engine.generate({ prompt: "x", seed: 4, format: person, temperature: 1, maxTokens: 90 }))
    parts.push(text);
  expect(parts.join("")).toBe(whole.text);
});

test("what cannot be followed is refused before the first token, and what is no format at the call", async () => {
  await using engine = new Engine(model, { tokenizer });
  const format: OutputFormat = { type: "json-schema", schema: { not: { items: { type: "null" } } } };
  await expectRejection(engine.generate({ prompt: "x", format }), "ERR_ARGUMENT", /schema at #\/not/);
  await expectRejection(generate(model, tokenizer, "x", { format }), "ERR_ARGUMENT", /schema at #\/not/);
  const unknown = { type: "xml" } as unknown as OutputFormat;
  expectError(() => engine.generate({ prompt: "x", format: unknown }), "ERR_ARGUMENT", /format\.type: expected json, /);
  await using bare = new Engine(model);
  expectError(
    () => bare.generate({ tokens: [1], format: person }),
    "ERR_ARGUMENT",
    /expected a tokenizer for the option format/,
  );
});
