/**
 * The protocol and the formulas of lm-evaluation-harness's `local-completions` over HTTP give the numbers that `heed eval`
 * computes in its own process. The requests are written here as the harness writes them: batches of token arrays with
 * `echo`, of which the sums leave out the context and the one generated token.
 *
 * @see https://github.com/EleutherAI/lm-evaluation-harness
 */
import { describe, expect, test } from "vitest";
import { evaluateTask, type TaskResult, type TaskSample } from "../../lib/evaluation/evaluate-task.js";
import { defineTask } from "../../lib/evaluation/task.js";
import { LanguageModel } from "../../lib/load/language-model.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import type { Tokenizer } from "../../lib/tokenizer/tokenizer.js";
import { smallGpt } from "../generate/models.js";
import { type Client, start } from "./support.js";

const bytes = new ByteTokenizer();
const end = 256;
/** Bytes, and a token that ends a text and begins another one. */
const tokenizer: Tokenizer = Object.assign(Object.create(bytes) as ByteTokenizer, {
  ...{ vocabularySize: 257, endOfText: end },
  decode: (ids: Iterable<number>) => bytes.decode([...ids].filter((id) => id < end)),
});
const model = smallGpt("cpu", { vocabularySize: 257, contextLength: 96, width: 16, heads: 2, layers: 2 });
const served = new LanguageModel({ model, tokenizer, defaults: { stopTokens: [end] } });

const common = { task: "t", test_split: "test" };
const documents = {
  test: Array.from({ length: 24 }, (_, i) => ({
    ...{ question: `${i} plus ${i % 7} is`, choices: ["two", `${i + (i % 7)}`, "a long answer"], label: i % 3 },
    text: `Line ${i} of a text.\nIt has two lines${"!".repeat(i)}`,
  })),
};

interface Choice {
  index: number;
  text: string;
  logprobs: { token_logprobs: (number | null)[]; top_logprobs: (Record<string, number> | null)[] };
}

/** Sum of a continuation's log-probabilities, and true if the model would generate it. */
type Likelihood = readonly [total: number, greedy: boolean];

/** A client that asks as the harness does. */
class Harness {
  /** Number of requests. */
  requests = 0;

  constructor(private readonly client: Client) {}

  async loglikelihood(pairs: readonly (readonly [context: string, continuation: string])[]): Promise<Likelihood[]> {
    const encoded = pairs.map(([context, continuation]) => {
      const whole = bytes.encode(context + continuation);
      const before = context === "" ? [end] : [...bytes.encode(context)];
      const tokens = context === "" ? [end, ...whole] : [...whole];
      return [tokens, before.length] as const;
    });
    return this.#scores(encoded);
  }

  async rolling(texts: readonly string[]): Promise<number[]> {
    const scores = await this.#scores(texts.map((text) => [[end, ...bytes.encode(text)], 1] as const));
    return scores.map(([total]) => total);
  }

  async generate(prompts: readonly string[], until: readonly string[], max_tokens: number): Promise<string[]> {
    return Promise.all(
      prompts.map(async (prompt) => {
        const body = {
          model: "tiny",
          prompt: [[...bytes.encode(prompt)]],
          max_tokens,
          temperature: 0,
          stop: until,
          seed: 1234,
        };
        return (await this.#ask(body))[0]!.text;
      }),
    );
  }

  async #scores(encoded: readonly (readonly [tokens: readonly number[], context: number])[]): Promise<Likelihood[]> {
    const found: Likelihood[] = [];
    for (let i = 0; i < encoded.length; i += 8) {
      const batch = encoded.slice(i, i + 8);
      const body = { model: "tiny", prompt: batch.map(([tokens]) => tokens), temperature: 0, max_tokens: 1 };
      const choices = await this.#ask({ ...body, logprobs: 1, seed: 1234, echo: true });
      for (const [j, { logprobs }] of choices.sort((a, b) => a.index - b.index).entries()) {
        const of = <T>(values: readonly T[]): T[] => values.slice(batch[j]![1], -1);
        const scores = of(logprobs.token_logprobs).map((one) => one!);
        const tops = of(logprobs.top_logprobs).map((top) => Math.max(...Object.values(top!)));
        found.push([scores.reduce((sum, one) => sum + one, 0), scores.every((one, t) => one === tops[t])]);
      }
    }
    return found;
  }

  async #ask(body: object): Promise<Choice[]> {
    this.requests++;
    return (await this.client.answer<{ choices: Choice[] }>("/v1/completions", body)).choices;
  }
}

/** Resolves to the result of a task, and to its samples in order. */
async function here(fields: object): Promise<[TaskResult, TaskSample[]]> {
  const samples: TaskSample[] = [];
  const task = await defineTask({ ...common, ...fields }, { documents });
  const result = await evaluateTask(served, task, { onSample: (sample) => void (samples[sample.index] = sample) });
  return [result, samples];
}

const mean = (values: readonly number[]): number => values.reduce((sum, one) => sum + one, 0) / values.length;
const valueOf = ({ metrics }: TaskResult, name: string): number => metrics.find(({ metric }) => metric === name)!.value;

function expectClose(found: readonly number[], expected: readonly number[]): void {
  expect(found).toHaveLength(expected.length);
  for (const [i, value] of found.entries()) expect(value).toBeCloseTo(expected[i]!, 4);
}

describe("lm-evaluation-harness over HTTP", () => {
  let harness: Harness;
  const asking = async (): Promise<Harness> => (harness = new Harness(await start({ models: { tiny: served } })));

  test("multiple choice", async () => {
    const [result, samples] = await here({
      ...{ output_type: "multiple_choice", doc_to_text: "{{question}}", doc_to_choice: "{{choices}}" },
      doc_to_target: "label",
      metric_list: [{ metric: "acc" }, { metric: "acc_norm" }],
    });
    const pairs = documents.test.flatMap(({ question, choices }) =>
      choices.map((one) => [question, ` ${one}`] as const),
    );
    const totals = (await (await asking()).loglikelihood(pairs)).map(([total]) => total);
    expectClose(
      totals,
      samples.flatMap((sample) => sample.logProbabilities!),
    );
    const best = (of: (total: number, text: string) => number): number =>
      mean(
        documents.test.map(({ choices, label }, i) => {
          const values = choices.map((text, j) => of(totals[3 * i + j]!, text));
          return values.indexOf(Math.max(...values)) === label ? 1 : 0;
        }),
      );
    expect(valueOf(result, "acc")).toBe(best((total) => total));
    expect(valueOf(result, "acc_norm")).toBe(best((total, text) => total / text.length));
    expect(harness.requests).toBe(9);
  });

  test("loglikelihood, with what the model would say itself", async () => {
    const plain = await start({ models: { tiny: served } });
    // Some targets are the model's own words, so that some are greedy.
    const own = await new Harness(plain).generate(
      documents.test.map(({ question }) => question),
      ["\n"],
      3,
    );
    const test = documents.test.map((one, i) => ({ ...one, target: i % 2 === 0 && own[i] !== "" ? own[i]! : " two" }));
    const task = await defineTask(
      {
        ...{ ...common, output_type: "loglikelihood", doc_to_text: "{{question}}", doc_to_target: "{{target}}" },
        metric_list: [{ metric: "perplexity" }, { metric: "acc" }],
      },
      { documents: { test } },
    );
    const result = await evaluateTask(served, task);
    const scores = await (
      await asking()
    ).loglikelihood(test.map(({ question, target }) => [question, target] as const));
    expect(new Set(scores.map(([, greedy]) => greedy)).size).toBe(2);
    expect(valueOf(result, "acc")).toBe(mean(scores.map(([, greedy]) => (greedy ? 1 : 0))));
    expect(valueOf(result, "perplexity")).toBeCloseTo(Math.exp(-mean(scores.map(([total]) => total))), 2);
  });

  test("rolling", async () => {
    const [result, samples] = await here({
      ...{ output_type: "loglikelihood_rolling", doc_to_text: "", doc_to_target: "{{text}}" },
      metric_list: [{ metric: "word_perplexity" }, { metric: "byte_perplexity" }, { metric: "bits_per_byte" }],
    });
    const texts = documents.test.map(({ text }) => text);
    const totals = await (await asking()).rolling(texts);
    expectClose(
      totals,
      samples.flatMap((sample) => sample.logProbabilities!),
    );
    const sum = (values: readonly number[]): number => values.reduce((all, one) => all + one, 0);
    const perByte = -sum(totals) / sum(texts.map((text) => Buffer.byteLength(text)));
    const perWord = -sum(totals) / sum(texts.map((text) => text.split(/\s+/).length));
    expect(valueOf(result, "byte_perplexity")).toBeCloseTo(Math.exp(perByte), 3);
    expect(valueOf(result, "bits_per_byte")).toBeCloseTo(perByte / Math.LN2, 4);
    expect(Math.log(valueOf(result, "word_perplexity"))).toBeCloseTo(perWord, 3);
  });

  test("generate_until", async () => {
    const [, samples] = await here({
      ...{ output_type: "generate_until", doc_to_text: "{{question}}", doc_to_target: "{{label}}" },
      generation_kwargs: { until: ["\n", "is"], max_gen_toks: 12, do_sample: false },
      metric_list: [{ metric: "exact_match" }],
    });
    const prompts = documents.test.map(({ question }) => question);
    const texts = await (await asking()).generate(prompts, ["\n", "is"], 12);
    expect(texts).toEqual(samples.map(({ generated }) => generated));
    expect(texts.some((text) => text.length > 3)).toBe(true);
  });
});
