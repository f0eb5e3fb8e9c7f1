/** Results of tasks: those of slow computations on a tiny model, on each device, the same in any batch. */
import { describe, expect, test } from "vitest";
import { addAdapter, setAdapter } from "../../lib/adapters/adapters.js";
import { evaluateTask, type TaskResult, type TaskSample } from "../../lib/evaluation/evaluate-task.js";
import { perplexity } from "../../lib/evaluation/perplexity.js";
import { defineTask } from "../../lib/evaluation/task.js";
import { windowsOf } from "../../lib/evaluation/windows.js";
import { score } from "../../lib/generate/score.js";
import { generate } from "../../lib/generate/generate-text.js";
import type { GPT } from "../../lib/models/gpt.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import type { Tokenizer } from "../../lib/tokenizer/tokenizer.js";
import { shakeAdapter } from "../adapters/support.js";
import { devices, smallGpt } from "../generate/models.js";
import { expectRejection } from "../support/errors.js";
import { nightly } from "../support/nightly.js";
import { nightlyOnly, testUnless } from "../support/skip.js";

const bytes = new ByteTokenizer();
const modelOn = (device: string, contextLength = 96): GPT =>
  smallGpt(device, { vocabularySize: 257, contextLength, width: 16, heads: 2, layers: device === "cpu" ? 2 : 1 });
/** Bytes, and a token that ends a text and begins another one. */
const tokenizer: Tokenizer = Object.assign(Object.create(bytes) as ByteTokenizer, {
  ...{ vocabularySize: 257, endOfText: 256 },
  decode: (ids: Iterable<number>) => bytes.decode([...ids].filter((id) => id < 256)),
});

/** Returns the log-probability of a text's last characters after the others, by lib/generate's `score`. */
async function slowly(model: GPT, context: string, continuation: string): Promise<number> {
  const start = context === "" ? [256] : [...bytes.encode(context)];
  const { logProbabilities } = await score(model, [...start, ...bytes.encode(continuation)]);
  return logProbabilities.subarray(start.length - 1).reduce((sum, value) => sum + value, 0);
}

const value = ({ metrics }: TaskResult, name: string): number =>
  metrics.find(({ metric, filter }) => metric === name || `${metric},${filter}` === name)!.value;

const all = Array.from({ length: 7 }, (_, i) => ({
  ...{ question: `${i} plus ${i % 3} is`, choices: ["two", `${i + (i % 3)}`, "a long answer"] },
  ...{ label: i % 3, text: `Line ${i} of a text.\nIt has two lines${"!".repeat(i)}` },
}));
const documents = { test: all, train: all.slice(0, 4) };
const common = { task: "t", test_split: "test", training_split: "train" };

describe.for(devices)("evaluateTask on %s", (device) => {
  const isCpu = device === "cpu";
  // The software CUDA device is slow.
  const questions = isCpu ? all : all.slice(0, 2);
  const documents = { test: questions, train: all.slice(0, 4) };
  const count = questions.length;

  // The software device takes seconds for what the engine's own tests do on it, too.
  const onCpu = testUnless(!isCpu && !nightly && nightlyOnly);

  test("multiple choice, with examples", async () => {
    using model = modelOn(device);
    const task = await defineTask(
      {
        ...{ ...common, output_type: "multiple_choice", num_fewshot: 2, fewshot_config: { sampler: "first_n" } },
        ...{ doc_to_text: "{{question}}", doc_to_choice: "{{choices}}", doc_to_target: "label" },
      },
      { documents },
    );
    const samples: TaskSample[] = [];
    const whole = await evaluateTask({ model, tokenizer }, task, { onSample: (sample) => samples.push(sample) });
    expect(whole).toMatchObject({ task: "t", outputType: "multiple_choice", documents: count, numFewshot: 2 });
    const prefix = "0 plus 0 is two\n\n1 plus 1 is 2\n\n";
    let [right, normalized] = [0, 0];
    for (const [i, { question, choices, label }] of questions.entries()) {
      const sample = samples.find(({ index }) => index === i)!;
      expect(sample.prompt).toBe(`${prefix}${question}`);
      const logs = [];
      for (const choice of choices) logs.push(await slowly(model, prefix + question, ` ${choice}`));
      for (const [c, log] of logs.entries()) expect(sample.logProbabilities![c]).toBeCloseTo(log, 3);
      right += Number(logs.indexOf(Math.max(...logs)) === label);
      const norms = logs.map((log, c) => log / choices[c]!.length);
      normalized += Number(norms.indexOf(Math.max(...norms)) === label);
    }
    expect([value(whole, "acc"), value(whole, "acc_norm")]).toEqual([right / count, normalized / count]);
    const p = right / count;
    expect(whole.metrics[0]!.stderr).toBeCloseTo(Math.sqrt((p * (1 - p)) / (count - 1)), 12);

    // The samples' own numbers do not depend on what else is computed.
    const again: TaskSample[] = [];
    const options = { batchSize: 2, batchTokens: 17, onSample: (sample: TaskSample) => again.push(sample) };
    expect(await evaluateTask({ model, tokenizer }, task, options)).toEqual(whole);
    const order = (some: TaskSample[]): TaskSample[] => some.toSorted((a, b) => a.index - b.index);
    expect(order(again)).toEqual(order(samples));
    expect((await evaluateTask({ model, tokenizer }, task, { limit: 2, numFewshot: 0 })).documents).toBe(2);
  });

  onCpu("likelihoods of answers and of whole texts", async () => {
    using model = modelOn(device, 24);
    const target = { ...common, doc_to_text: "", doc_to_target: "{{question}}" };
    const answers = await defineTask({ ...target, output_type: "loglikelihood" }, { documents });
    const rolling = await defineTask(
      { ...target, doc_to_target: "{{text}}", output_type: "loglikelihood_rolling" },
      { documents },
    );
    let sum = 0;
    for (const { question } of questions) sum += await slowly(model, "", question);
    const result = await evaluateTask({ model, tokenizer }, answers);
    expect(Math.log(value(result, "perplexity"))).toBeCloseTo(-sum / count, 3);
    expect(value(result, "acc")).toBe(0);

    // A text longer than the context is read by windows that reach back as far as they can.
    const totals = [];
    for (const { text } of questions) {
      const ids = [256, ...bytes.encode(text)];
      let total = 0;
      for (let done = 1; done < ids.length;) {
        const end = Math.min(ids.length, done + 24);
        const { logProbabilities } = await score(model, ids.slice(Math.max(0, end - 25), end));
        total += logProbabilities.subarray(-(end - done)).reduce((sum, log) => sum + log, 0);
        done = end;
      }
      totals.push(total);
    }
    const whole = totals.reduce((sum, total) => sum + total, 0);
    const size = (of: (text: string) => number): number => questions.reduce((sum, { text }) => sum + of(text), 0);
    const read = await evaluateTask({ model, tokenizer }, rolling, { batchTokens: 40 });
    expect(Math.log(value(read, "word_perplexity"))).toBeCloseTo(-whole / size((text) => text.split(/\s+/).length), 3);
    expect(Math.log(value(read, "byte_perplexity"))).toBeCloseTo(-whole / size((text) => text.length), 4);
    expect(value(read, "bits_per_byte")).toBeCloseTo(Math.log2(value(read, "byte_perplexity")), 12);
  });

  onCpu("generated texts, by several metrics and filters", async () => {
    using model = modelOn(device);
    const texts: string[] = [];
    for (const { question } of questions) {
      const options = { maxTokens: 12, temperature: 0, stop: ["\n\n"], stopTokens: [256] };
      texts.push((await generate(model, tokenizer, question, options)).text);
    }
    // The right answers of the first two documents are what the model writes.
    const known = { test: questions.map((one, i) => ({ ...one, answer: i < 2 ? texts[i] : "nothing" })) };
    const task = await defineTask(
      {
        ...{ task: "t", test_split: "test", doc_to_text: "question", doc_to_target: "answer" },
        generation_kwargs: { max_gen_toks: 12, do_sample: false },
        metric_list: ["exact_match", "f1", "bleu", "chrf"].map((metric) => ({ metric })),
        filter_list: [
          { name: "none", filter: [{ function: "take_first" }] },
          { name: "first", filter: [{ function: "regex", regex_pattern: "^(.)", fallback: "?" }] },
        ],
      },
      { documents: known },
    );
    const samples: TaskSample[] = [];
    const result = await evaluateTask({ model, tokenizer }, task, { onSample: (sample) => samples.push(sample) });
    expect(samples.toSorted((a, b) => a.index - b.index).map(({ generated }) => generated)).toEqual(texts);
    expect(value(result, "exact_match,none")).toBeCloseTo(2 / count, 12);
    expect(value(result, "exact_match,first")).toBe(0);
    expect(value(result, "chrf,none")).toBeGreaterThan(value(result, "chrf,first"));
    expect(result.metrics).toHaveLength(8);
    expect(result.metrics.every(({ stderr }) => stderr !== null)).toBe(true);
  });

  onCpu("by adapter, at the same time", async () => {
    using model = modelOn(device);
    addAdapter(model, { name: "bold", rank: 2, active: false });
    shakeAdapter(model, "bold");
    const task = await defineTask(
      { ...common, output_type: "loglikelihood", doc_to_text: "Now ", doc_to_target: "{{question}}" },
      { documents },
    );
    const given = { model, tokenizer };
    const kinds = [null, "bold", undefined];
    const measure = (adapter: string | null | undefined) =>
      Promise.all([evaluateTask(given, task, { adapter }), perplexity(given, "Call me Ishmael.", { adapter })]);
    const [alone, bold, usual] = await Promise.all(kinds.map(measure));
    expect(usual).toEqual(alone);
    expect(bold![1].loss).not.toBeCloseTo(alone![1].loss, 3);
    setAdapter(model, "bold");
    expect(await measure(undefined)).toEqual(bold);
    expect(await measure(null)).toEqual(alone);
    await expectRejection(measure("meek"), "ERR_ARGUMENT", /expected adapter to be .+ which are bold, or null/);
  });

  onCpu("perplexity in blocks and by a sliding window", async () => {
    using model = modelOn(device, 16);
    const text = all
      .map(({ text }) => text)
      .join(" ")
      .slice(0, 90);
    const ids = [256, ...bytes.encode(text)];
    const losses = async (windows: [from: number, to: number, first: number][]): Promise<number> => {
      let sum = 0;
      for (const [from, to, first] of windows) {
        const { logProbabilities } = await score(model, ids.slice(from, to));
        sum -= logProbabilities.subarray(first - from - 1).reduce((total, log) => total + log, 0);
      }
      return sum / 90;
    };
    const blocks = Array.from({ length: 6 }, (_, i): [number, number, number] => [
      16 * i,
      Math.min(91, 16 * i + 17),
      16 * i + 1,
    ]);
    const given = await perplexity({ model, tokenizer }, text);
    const loss = await losses(blocks);
    expect(given).toMatchObject({ tokens: 90, bytes: 90, loss: expect.closeTo(loss, 4) });
    expect(given.perplexity).toBeCloseTo(Math.exp(given.loss), 8);
    expect(given.bitsPerByte).toBeCloseTo(given.loss / Math.LN2, 8);
    const slides: [number, number, number][] = [[0, 17, 1]];
    for (let done = 17; done < 91; done += 5) slides.push([Math.min(91, done + 5) - 17, Math.min(91, done + 5), done]);
    const slid = await perplexity({ model, tokenizer }, text, { stride: 5, batchTokens: 7, batchSize: 3 });
    expect(slid.loss).toBeCloseTo(await losses(slides), 4);
    const again = await perplexity({ model, tokenizer }, text, { stride: 5 });
    expect(again).toEqual(slid);
  });
});

describe("evaluations", () => {
  test("windows score every token once", () => {
    for (const [length, first, context, stride] of [
      ...[
        [50, 1, 8, null],
        [50, 2, 8, 3],
        [9, 1, 8, 8],
        [2, 1, 8, 1],
        [10, 1, 1, null],
        [17, 1, 8, 8],
        [3, 3, 8, 2],
      ],
    ] as [number, number, number, number | null][]) {
      const scored = windowsOf(length, first, context, stride).flatMap((window) => {
        expect(window.to - 1 - window.from).toBeLessThanOrEqual(context);
        expect(window.from).toBeLessThan(window.first);
        return Array.from({ length: window.to - window.first }, (_, i) => window.first + i);
      });
      expect(scored).toEqual(Array.from({ length: length - first }, (_, i) => first + i));
    }
  });

  test("a text's first token follows the tokenizer's token for the beginning, and else that for the end", async () => {
    using model = modelOn("cpu");
    const withTokens = (tokens: object): Tokenizer => Object.assign(Object.create(tokenizer) as Tokenizer, tokens);
    const target = { ...common, doc_to_text: "", doc_to_target: "{{question}}", num_fewshot: 0 };
    const tasks = [
      await defineTask({ ...target, output_type: "loglikelihood" }, { documents }),
      await defineTask({ ...target, output_type: "loglikelihood_rolling" }, { documents }),
    ];
    const measured = async (tokens: object) => {
      const given = { model, tokenizer: withTokens(tokens) };
      const text = await perplexity(given, "Call me Ishmael.");
      return [text.loss, text.bytes, ...(await Promise.all(tasks.map((task) => evaluateTask(given, task))))];
    };
    const begins = await measured({ beginningOfText: 256, endOfText: 33 });
    expect(begins).toEqual(await measured({ endOfText: 256 }));
    expect(begins).toEqual(await measured({ beginningOfText: null, endOfText: 256 }));
    const ends = await measured({ beginningOfText: null, endOfText: 33 });
    expect(ends[0]).not.toBe(begins[0]);
    expect(ends[2]).not.toEqual(begins[2]);
    expect(ends[3]).not.toEqual(begins[3]);
  });

  test("without a token that begins a text, the first one is only read", async () => {
    using model = modelOn("cpu");
    const { tokens, bytes: counted } = await perplexity({ model, tokenizer: bytes }, "Call me");
    expect([tokens, counted]).toEqual([6, 6]);
    const task = await defineTask(
      { ...common, output_type: "loglikelihood", doc_to_text: "", doc_to_target: "{{question}}" },
      { documents },
    );
    await expect(evaluateTask({ model, tokenizer: bytes }, task)).rejects.toMatchObject({
      code: "ERR_ARGUMENT",
      message: expect.stringContaining("the tokenizer has no token that begins a text"),
    });
  });

  test("name the document that does not fit, and stop when they are told to", async () => {
    using model = modelOn("cpu");
    const task = await defineTask(
      { ...common, doc_to_text: "{{text}}", doc_to_target: "{{label}}" },
      { documents: { test: [all[0]!, { label: 1 }] } },
    );
    await expect(evaluateTask({ model, tokenizer }, task)).rejects.toMatchObject({
      code: "ERR_FORMAT",
      message: `task t, document 1: template "{{text}}": 'text' is undefined`,
    });
    const reason = new Error("gone");
    const signal = AbortSignal.abort(reason);
    await expect(evaluateTask({ model, tokenizer }, task, { signal })).rejects.toBe(reason);
    for (const [options, code] of [
      [{ numFewshot: -1 }, "ERR_RANGE"],
      [{ limit: 0 }, "ERR_RANGE"],
      [{ batchSize: 0 }, "ERR_RANGE"],
      [{ batchTokens: 1.5 }, "ERR_RANGE"],
      [{ onSample: 1 }, "ERR_ARGUMENT"],
      [null, "ERR_ARGUMENT"],
    ] as const)
      await expect(evaluateTask({ model, tokenizer }, task, options as never)).rejects.toMatchObject({ code });
    await expect(evaluateTask({ model } as never, task)).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
    await expect(evaluateTask({ model, tokenizer }, task, { numFewshot: 1 })).rejects.toMatchObject({
      code: "ERR_RANGE",
      message: expect.stringContaining("at least 1 few-shot examples"),
    });
    for (const options of [{ stride: 0 }, { stride: 97 }, { contextLength: 97 }])
      await expect(perplexity({ model, tokenizer }, "text", options)).rejects.toMatchObject({ code: "ERR_RANGE" });
    await expect(perplexity({ model, tokenizer: bytes }, "a")).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
    await expect(perplexity({ model, tokenizer }, 1 as never)).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
  });
});
