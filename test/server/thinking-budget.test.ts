/** Bounds on the tokens of reasoning: `thinking_budget` of requests, and `thinkingBudget` of conversations. */
import OpenAI from "openai";
import { describe, expect, test } from "vitest";
import { LanguageModel } from "../../lib/load/language-model.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { smallGpt } from "../generate/models.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";
import { start } from "./support.js";

const messages = [{ role: "user" as const, content: "Why?" }];
const turns = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>{% endfor %}assistant: ";
/** A template that begins the reasoning, unless thinking is turned off. */
const opening = `${turns}{{ '<think>\n\n</think>\n\n' if enable_thinking is false else '<think>\n' }}`;
/** A template that begins the reasoning whatever is asked for. */
const always = `${turns}<think>\n`;
/** A template whose model begins the reasoning itself. */
const knowing = `{#- <think> </think> -#}${turns}`;
const harmony = `{#- <|channel|>final<|message|> -#}${turns}<|start|>assistant`;

/** Letters, so that each token is a character of its own, and no text ends the reasoning. */
const letters = Object.fromEntries(Array.from({ length: 26 }, (_, i) => [97 + i, 60]));

/** Returns a random GPT whose tokenizer has these tokens besides the bytes. */
function thinker(chatTemplate: string, marks: readonly string[] = []): LanguageModel {
  const json = byteLevelJson();
  const first = json.added_tokens.at(-1)!.id + 1;
  const own = marks.map((content, i) => ({ id: first + i, content, special: content.startsWith("<|"), normalized: false })); // prettier-ignore
  const tokenizer = new HuggingFaceTokenizer(
    { ...json, added_tokens: [...json.added_tokens, ...own] },
    { config: { eos_token: "<|end|>" }, chatTemplate },
  );
  const model = smallGpt("cpu", { vocabularySize: 280, contextLength: 400 });
  return new LanguageModel({ model, tokenizer, defaults: { stopTokens: [tokenizer.endOfText!] } });
}

function tokenizerOf({ tokenizer }: LanguageModel): HuggingFaceTokenizer {
  if (tokenizer instanceof HuggingFaceTokenizer) return tokenizer;
  throw new Error("expected the tokenizer of thinker()");
}

async function client(model: LanguageModel): Promise<OpenAI> {
  const server = await start({ models: { tiny: model } });
  return new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
}

type Message = OpenAI.ChatCompletionMessage & { reasoning_content?: string };

describe.each([
  ["a token of its own", ["<think>", "</think>"]],
  ["several tokens", []],
])("a mark of the end that is %s", (_, marks) => {
  test.each([1, 7, 20])("reasoning that the prompt begins ends after %i tokens", async (thinking_budget) => {
    const openai = await client(thinker(opening, marks));
    const body = { model: "tiny", messages, max_completion_tokens: 60, seed: 3, logit_bias: letters };
    const { choices, usage } = await openai.chat.completions.create({ ...body, thinking_budget } as typeof body);
    const { content, reasoning_content: reasoning } = choices[0]!.message as Message;
    expect(reasoning).toMatch(new RegExp(`^[a-z]{${thinking_budget}}$`));
    expect(content).toMatch(/^[a-z]+$/);
    expect(usage!.completion_tokens_details!.reasoning_tokens).toBe(thinking_budget);
    expect(usage!.completion_tokens).toBe(60);
    const mark = marks.length > 0 ? 1 : "</think>".length;
    expect(content).toHaveLength(60 - thinking_budget - mark);

    const streamed = { reasoning: "", content: "", tokens: 0 };
    const stream = await openai.chat.completions.create({
      ...{ ...body, thinking_budget, stream: true as const, stream_options: { include_usage: true } },
    });
    for await (const { choices, usage } of stream) {
      const delta = choices[0]?.delta as { content?: string; reasoning_content?: string } | undefined;
      streamed.reasoning += delta?.reasoning_content ?? "";
      streamed.content += delta?.content ?? "";
      streamed.tokens = usage?.completion_tokens_details?.reasoning_tokens ?? streamed.tokens;
    }
    expect(streamed).toEqual({ reasoning, content, tokens: thinking_budget });
  });

  test("other names, and the other interface", async () => {
    const openai = await client(thinker(opening, marks));
    const body = { model: "tiny", messages, max_completion_tokens: 40, seed: 3, logit_bias: letters };
    for (const given of [{ thinking_token_budget: 5 }, { thinking: { type: "enabled", budget_tokens: 5 } }]) {
      const { choices } = await openai.chat.completions.create({ ...body, ...given } as typeof body);
      expect((choices[0]!.message as Message).reasoning_content).toMatch(/^[a-z]{5}$/);
    }
    const asked = { model: "tiny", input: "Why?", max_output_tokens: 40, seed: 3, logit_bias: letters };
    const { usage, output_text: text } = await openai.responses.create({
      ...asked,
      thinking_budget: 5,
    } as typeof asked);
    expect(usage!.output_tokens_details.reasoning_tokens).toBe(5);
    expect(text).toMatch(/^[a-z]+$/);
  });

  test("reasoning that the model begins itself ends as well", async () => {
    const model = thinker(knowing, marks);
    const tokenizer = tokenizerOf(model);
    // The form makes the model begin to reason, and its text has to have the rest of the form.
    const answer = await model.chat(messages, {
      ...{ thinkingBudget: 6, maxTokens: 60, seed: 1, logitBias: { ...letters, ...favoured(tokenizer, "<think>") } },
      format: { type: "json-schema", schema: { enum: ["yes", "no"] } },
    });
    expect(answer.reasoning).toMatch(/^(<think>|[^]){6}$/);
    expect(["yes", "no"]).toContain(JSON.parse(answer.text));
    expect(answer.finishReason).toBe("stop");
  });
});

/** Returns a bias for the first token of a text. */
function favoured(tokenizer: HuggingFaceTokenizer, text: string): Record<number, number> {
  return { [tokenizer.tokenId(text) ?? text.charCodeAt(0)]: 100 };
}

test("a form is followed after the reasoning was ended", async () => {
  const model = thinker(opening, ["<think>", "</think>"]);
  for (const seed of [1, 2, 3]) {
    const { text, reasoning, finishReason } = await model.chat(messages, {
      ...{ thinkingBudget: 4, seed, logitBias: letters },
      format: { type: "json-schema", schema: { enum: ["yes", "no"] } },
    });
    expect(reasoning).toMatch(/^[a-z]{4}$/);
    expect(["yes", "no"]).toContain(JSON.parse(text));
    expect(finishReason).toBe("stop");
  }
});

test("0 turns thinking off, also for a template without a switch; -1 sets no bound", async () => {
  for (const [template, count] of [
    [opening, 0],
    [always, 1],
  ] as const) {
    const openai = await client(thinker(template, ["<think>", "</think>"]));
    const ask = async (thinking_budget: number) => {
      const body = { model: "tiny", messages, max_completion_tokens: 20, seed: 3, logit_bias: letters };
      const { choices, usage } = await openai.chat.completions.create({ ...body, thinking_budget } as typeof body);
      const { content, reasoning_content: reasoning = "" } = choices[0]!.message as Message;
      return { content, reasoning, count: usage!.completion_tokens_details?.reasoning_tokens ?? 0 };
    };
    const off = await ask(0);
    expect(off).toEqual({
      content: expect.stringMatching(`^[a-z]{${20 - count}}$`) as string,
      reasoning: "",
      count: 0,
    });
    expect(await ask(-1)).toEqual({
      content: "",
      reasoning: expect.stringMatching(/^[a-z]{20}$/) as string,
      count: 20,
    });
  }
});

test("reasoning that ends earlier is left alone, and so are models that do not reason", async () => {
  const options = { maxTokens: 40, seed: 5, temperature: 0 };
  for (const template of [turns, opening]) {
    const model = thinker(template, ["<think>", "</think>"]);
    const end = tokenizerOf(model).tokenId("</think>")!;
    const given = { ...options, logitBias: template === opening ? { [end]: 100 } : letters };
    const [free, bounded] = await Promise.all([
      model.chat(messages, given),
      model.chat(messages, { ...given, thinkingBudget: 9 }),
    ]);
    expect(bounded.text).toBe(free.text);
    expect(bounded.reasoning).toBe(free.reasoning);
    expect(bounded.tokens).toEqual(free.tokens);
  }
});

test("several answers end their own reasoning, beside requests without a bound", async () => {
  const model = thinker(opening, ["<think>", "</think>"]);
  const asked = { maxTokens: 30, seed: 2, logitBias: letters };
  const alone = await model.chat(messages, asked);
  const [{ choices }, other] = await Promise.all([
    model.chat(messages, { ...asked, n: 3, thinkingBudget: 8 }),
    model.chat(messages, asked),
  ]);
  expect(choices.map(({ reasoning }) => reasoning)).toEqual(
    choices.map(() => expect.stringMatching(/^[a-z]{8}$/) as string),
  );
  expect(new Set(choices.map(({ reasoning }) => reasoning)).size).toBeGreaterThan(1);
  expect(other.tokens).toEqual(alone.tokens);
});

test("harmony's analysis ends with its message", async () => {
  const model = thinker(harmony, ["<|start|>", "<|channel|>", "<|message|>", "<|call|>", "<|return|>"]);
  const tokenizer = tokenizerOf(model);
  // The form allows an analysis before the answer, which the bias makes the model choose.
  const given = { seed: 1, logitBias: { 97: 100 }, stopTokens: [tokenizer.tokenId("<|return|>")!] };
  const format = { type: "json-schema", schema: { enum: ["yes", "no"] } } as const;
  const { tokens, text, reasoning } = await model.chat(messages, { ...given, format, thinkingBudget: 5 });
  expect(reasoning).toBe("aaaaa");
  expect(["yes", "no"]).toContain(JSON.parse(text));
  const written = tokenizer.decode(Int32Array.from(tokens), { special: true });
  expect(written).toContain("<|message|>aaaaa<|end|><|start|>assistant<|channel|>final<|message|>");
  // Where the mark ends the whole answer, it is not written for the model.
  const stopTokens = [...given.stopTokens, tokenizer.tokenId("<|end|>")!];
  const free = await model.chat(messages, { ...given, stopTokens, format, thinkingBudget: 5, maxTokens: 40 });
  expect(free.finishReason).toBe("length");
});

test.each([-1, 1.5, "4"])("thinkingBudget: %j is refused", (thinkingBudget) => {
  const ask = (): unknown => thinker(opening).chat(messages, { thinkingBudget: thinkingBudget as number });
  expect(ask).toThrow(/expected thinkingBudget to be an integer from 0/);
});
