/** Log-probabilities of prompts over HTTP: `echo`, `prompt_logprobs`, and the tokens of prompts and answers. */
import { describe, expect, test } from "vitest";
import { tensor } from "../../lib/core/creation.js";
import { infer } from "../../lib/generate/causal-model.js";
import type { LanguageModel } from "../../lib/load/language-model.js";
import { chatModel, type Client, contextLength, type ErrorBody, eventsOf, start } from "./support.js";

interface Choice {
  index: number;
  text: string;
  finish_reason: string;
  logprobs: {
    tokens: string[];
    token_logprobs: (number | null)[];
    top_logprobs: (Record<string, number> | null)[];
    text_offset: number[];
  } | null;
  token_ids?: number[];
  prompt_token_ids?: number[];
  prompt_logprobs?: (Record<string, { logprob: number; rank: number | null; decoded_token: string }> | null)[];
}
interface Body {
  choices: Choice[];
  usage: { prompt_tokens: number; completion_tokens: number };
}

const url = "/v1/completions";
const model = chatModel();
const { tokenizer } = model;

/** Returns the log-probabilities of all tokens at each place, straight from the logits of one pass. */
async function logprobsOf({ model }: LanguageModel, tokens: readonly number[]): Promise<number[][]> {
  const ids = tensor(Int32Array.from(tokens), [1, tokens.length], { device: model.device });
  const logits = infer(model, () => model.forward(ids));
  const [values, size] = [await logits.data(), logits.shape.at(-1)!];
  return tokens.map((_, t) => {
    const row = [...values.subarray(t * size, (t + 1) * size)];
    const most = Math.max(...row);
    const sum = Math.log(row.reduce((all, one) => all + Math.exp(one - most), 0)) + most;
    return row.map((one) => one - sum);
  });
}

const startTiny = (): Promise<Client> => start({ models: { tiny: model }, engine: { pageSize: 8 } });

describe("echo", () => {
  test.each(["Why is it so? Ünïcode 😀.", "a", "x".repeat(90)])("scores the tokens of %j", async (prompt) => {
    const { answer } = await startTiny();
    const ids = [...tokenizer.encode(prompt)];
    const rows = await logprobsOf(model, ids);
    for (const given of [prompt, ids]) {
      const body = { prompt: given, echo: true, logprobs: 3, max_tokens: 0 };
      const { choices, usage } = await answer<Body>(url, body);
      const [{ text, logprobs, finish_reason }] = choices as [Choice];
      expect([text, finish_reason]).toEqual([prompt, "length"]);
      expect(usage).toMatchObject({ prompt_tokens: ids.length, completion_tokens: 0 });
      const { token_logprobs: scores, top_logprobs: tops, tokens, text_offset: offsets } = logprobs!;
      expect([scores[0], tops[0]]).toEqual([null, null]);
      expect([scores.length, tops.length, tokens.length, offsets.length]).toEqual(Array(4).fill(ids.length));
      expect(offsets[0]).toBe(0);
      for (let t = 1; t < ids.length; t++) {
        const row = rows[t - 1]!;
        expect(scores[t]).toBeCloseTo(row[ids[t]!]!, 4);
        const best = [...row].sort((a, b) => b - a);
        expect(Math.max(...Object.values(tops[t]!))).toBeCloseTo(best[0]!, 4);
        expect(offsets[t]).toBeGreaterThanOrEqual(offsets[t - 1]!);
      }
    }
  });

  test("with tokens that follow is the prompt and the answer that comes without it, whole and in a stream", async () => {
    const { answer, post } = await startTiny();
    const body = { prompt: ["Why?", "So it is."], max_tokens: 4, temperature: 0, logprobs: 2, n: 2 };
    const plain = await answer<Body>(url, body);
    const whole = await answer<Body>(url, { ...body, echo: true });
    const streamed = await post(url, { ...body, echo: true, stream: true });
    const events = (await eventsOf<Body>(streamed)).filter((event) => event !== "[DONE]");
    expect(whole.choices).toHaveLength(4);
    const lengths = body.prompt.map((text) => tokenizer.encode(text).length);
    expect(whole.usage).toMatchObject({ prompt_tokens: lengths[0]! + lengths[1]!, completion_tokens: 16 });
    for (const [i, { text, logprobs }] of whole.choices.entries()) {
      const [prompt, own] = [body.prompt[Math.floor(i / 2)]!, plain.choices[i]!];
      expect(text).toBe(prompt + own.text);
      const length = lengths[Math.floor(i / 2)]!;
      expect(logprobs!.tokens.slice(length)).toEqual(own.logprobs!.tokens);
      expect(logprobs!.token_logprobs.slice(length)).toEqual(own.logprobs!.token_logprobs);
      expect(logprobs!.text_offset.slice(length)).toEqual(own.logprobs!.text_offset.map((at) => at + prompt.length));
      const parts = events.flatMap(({ choices }) => choices).filter(({ index }) => index === i);
      expect(parts.map((part) => part.text).join("")).toBe(text);
      for (const name of ["tokens", "token_logprobs", "top_logprobs", "text_offset"] as const)
        expect(parts.flatMap((part): unknown[] => part.logprobs?.[name] ?? [])).toEqual(logprobs![name]);
    }
  });

  test("with nothing else is the text, also in a stream", async () => {
    const { answer, post } = await startTiny();
    const body = { prompt: "Why?", echo: true, max_tokens: 0 };
    expect((await answer<Body>(url, body)).choices).toMatchObject([{ text: "Why?", logprobs: null }]);
    const options = { stream: true, stream_options: { include_usage: true } };
    const events = await eventsOf<Body>(await post(url, { ...body, ...options }));
    expect(events).toMatchObject([
      { choices: [{ text: "Why?", finish_reason: "length" }] },
      { choices: [], usage: { prompt_tokens: tokenizer.encode("Why?").length, completion_tokens: 0 } },
      "[DONE]",
    ]);
  });

  test("of a text that fills the context is scored, and a longer one is refused", async () => {
    const { answer, post } = await startTiny();
    const body = { echo: true, logprobs: 1, max_tokens: 1 };
    const full = await answer<Body>(url, { ...body, prompt: "y".repeat(contextLength - 1) });
    expect(full.choices[0]!.logprobs!.tokens).toHaveLength(contextLength + full.usage.completion_tokens);
    const refused = await post(url, { ...body, prompt: "y".repeat(contextLength) });
    expect((await refused.json()) as ErrorBody).toMatchObject({ error: { code: "context_length_exceeded" } });
  });
});

test("max_tokens 0 without echo is refused", async () => {
  const { post } = await startTiny();
  const response = await post(url, { prompt: "a", max_tokens: 0 });
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ error: { param: "max_tokens", code: "invalid_value" } });
});

test("prompt_logprobs name the tokens by their ids, with their ranks", async () => {
  const { answer, post } = await startTiny();
  const ids = [...tokenizer.encode("Why?")];
  const rows = await logprobsOf(model, ids);
  const { choices } = await answer<Body>(url, { prompt: ids, max_tokens: 1, prompt_logprobs: 2 });
  const scores = choices[0]!.prompt_logprobs!;
  expect([scores.length, scores[0], choices[0]!.logprobs]).toEqual([ids.length, null, null]);
  for (let t = 1; t < ids.length; t++) {
    const row = rows[t - 1]!;
    const order = [...row.keys()].sort((a, b) => row[b]! - row[a]! || a - b);
    const named = [...new Set([...order.slice(0, 2), ids[t]!])];
    expect(Object.keys(scores[t]!).map(Number).sort()).toEqual(named.sort());
    for (const id of named) {
      expect(scores[t]![id]!.logprob).toBeCloseTo(row[id]!, 4);
      const rank = order.indexOf(id) + 1;
      expect(scores[t]![id]!.rank).toBe(rank <= 2 ? rank : null);
    }
  }
  const chat = {
    messages: [{ role: "user", content: "Why?" }],
    max_tokens: 1,
    prompt_logprobs: 0,
    return_token_ids: true,
  };
  const body = await answer<{ prompt_logprobs: object[]; prompt_token_ids: number[] }>("/v1/chat/completions", chat);
  expect(body.prompt_logprobs).toHaveLength(body.prompt_token_ids.length);
  const streamed = await post(url, { prompt: "a", prompt_logprobs: 1, stream: true });
  expect(streamed.status).toBe(400);
});

test("return_token_ids gives the tokens of prompts and answers, whole and in streams", async () => {
  const { answer, post } = await startTiny();
  const body = { prompt: "Why?", max_tokens: 5, seed: 3, return_token_ids: true };
  const [choice] = (await answer<Body>(url, body)).choices as [Choice];
  expect(choice.prompt_token_ids).toEqual([...tokenizer.encode("Why?")]);
  expect(choice.token_ids!.length).toBeGreaterThan(1);
  expect(tokenizer.decode(choice.token_ids!)).toBe(choice.text);
  const events = (await eventsOf<Body>(await post(url, { ...body, stream: true }))).slice(0, -1) as Body[];
  const parts = events.flatMap(({ choices }) => choices);
  expect(parts[0]!.prompt_token_ids).toEqual(choice.prompt_token_ids);
  expect(parts.flatMap((part) => part.token_ids!)).toEqual(choice.token_ids);
  const chat = { messages: [{ role: "user", content: "Why?" }], max_tokens: 5, seed: 3, return_token_ids: true };
  const whole = await answer<Body & { prompt_token_ids: number[] }>("/v1/chat/completions", chat);
  const streamed = await eventsOf<Body & { prompt_token_ids?: number[] }>(
    await post("/v1/chat/completions", { ...chat, stream: true }),
  );
  const chunks = streamed.slice(0, -1) as (Body & { prompt_token_ids?: number[] })[];
  expect(chunks[0]!.prompt_token_ids).toEqual(whole.prompt_token_ids);
  expect(whole.usage.prompt_tokens).toBe(whole.prompt_token_ids.length);
  expect(chunks.flatMap(({ choices }) => choices.flatMap((one) => one.token_ids!))).toEqual(
    whole.choices[0]!.token_ids,
  );
});

test("completions follow a response_format", async () => {
  const { answer } = await startTiny();
  const schema = { type: "object", properties: { a: { enum: [1, 2] } }, required: ["a"], additionalProperties: false };
  const response_format = { type: "json_schema", json_schema: { name: "a", schema } };
  const { choices } = await answer<Body>(url, { prompt: "Why?", max_tokens: 60, seed: 1, response_format });
  expect([1, 2]).toContain((JSON.parse(choices[0]!.text) as { a: number }).a);
});
