/** Instruction tuning: which tokens count, how examples share sequences, and how micro-batches are weighed. */
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test, vi } from "vitest";
import { addAdapter } from "../../lib/adapters/adapters.js";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import type { CausalDecoder } from "../../lib/models/causal-decoder.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { freeze } from "../../lib/nn/freeze.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { ChatTemplate } from "../../lib/tokenizer/chat-template.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { chatExamples, textExample, withChatTemplate } from "../../lib/data/chat-examples.js";
import { loadCheckpoint } from "../../lib/train/checkpoint.js";
import { evaluate } from "../../lib/train/evaluate.js";
import { packExamples, type TrainingExample } from "../../lib/data/pack-examples.js";
import { readExamples } from "../../lib/data/read-examples.js";
import { Trainer } from "../../lib/train/trainer.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { load } from "../../lib/load/load.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { Random } from "../support/random.js";
import { onEachDevice } from "../support/targets.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";
import { collect, losses, values } from "../train/support.js";

const config = { bos_token: "<|begin|>", eos_token: "<|end|>" };
const withTemplate = (chatTemplate: string) => new HuggingFaceTokenizer(byteLevelJson(), { config, chatTemplate });
const chatml =
  "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
const marking =
  "{% for m in messages %}\n  {%- if m.role == 'assistant' %}\nA: {% generation %}\n{{ m.content }}!{% endgeneration %}\n" +
  "  {%- else %}\nQ: {{ m.content }}\n  {%- endif %}\n{% endfor %}";
/** Hides what was thought in earlier answers, as the templates of reasoning models do. */
const hiding =
  "{% for m in messages %}{{ m.role }}:{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}{{ m.content }};{% endfor %}" +
  "{% if add_generation_prompt %}assistant:{% endif %}";
const messages = [
  { role: "system", content: "Be kind." },
  { role: "user", content: "Hi ab" },
  { role: "assistant", content: "Hello" },
  { role: "user", content: "And?" },
  { role: "assistant", content: "Bye ab" },
];

/** Returns the text of the tokens that count. */
const learned = (tokenizer: HuggingFaceTokenizer, { ids, mask }: TrainingExample): string =>
  tokenizer.decode(
    [...ids].filter((_, i) => mask[i] === 1),
    { special: true },
  );

describe("chatExamples", () => {
  test("the assistant's tokens and the end of its turns count, and nothing else", async () => {
    const tokenizer = withTemplate(chatml);
    const [example, ...others] = await chatExamples(tokenizer, messages);
    expect(others).toEqual([]);
    expect(example!.ids).toEqual(tokenizer.encodeChat(messages, { addGenerationPrompt: false }));
    expect(learned(tokenizer, example!)).toBe("Hello<|im_end|>\nBye ab<|im_end|>\n");
  });

  test("the template's own marks decide, if it has them", async () => {
    const tokenizer = withTemplate(marking);
    const [example] = await chatExamples(tokenizer, messages);
    expect(example!.ids).toEqual(tokenizer.encodeChat(messages, { addGenerationPrompt: false }));
    expect(learned(tokenizer, example!)).toBe("Hello!Bye ab!");
    const strange = [{ role: "assistant", content: "\uFDD0" }];
    await expectRejection(chatExamples(tokenizer, strange), "ERR_ARGUMENT", /U\+FDD0/);
  });

  test("a template that changes earlier turns gives an example for each answer", async () => {
    const tokenizer = withTemplate(hiding);
    const examples = await chatExamples(tokenizer, messages);
    expect(examples.map((example) => learned(tokenizer, example))).toEqual([
      "<think></think>Hello;",
      "<think></think>Bye ab;",
    ]);
    expect(tokenizer.decode(examples[1]!.ids)).toContain("assistant:Hello;");
  });

  test("an answer whose history differs from its generation begins where both differ", async () => {
    // As DeepSeek-R1's: the prompt opens the reasoning, which the history leaves out.
    const tokenizer = withTemplate(
      "{% for m in messages %}{% if m.role == 'assistant' %}<|user|>{{ m.content.split('</think>')[-1] }}<|end|>" +
        "{% else %}<|begin|>{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|user|><tool>\n{% endif %}",
    );
    const given = messages.slice(1).map(({ role, content }) => ({
      ...{ role, content: role === "assistant" ? `because</think><${content}` : content },
    }));
    for (const turns of [1, 4]) {
      const long = Array.from({ length: turns }, () => given).flat();
      const [example, ...others] = await chatExamples(tokenizer, long);
      expect(others).toEqual([]);
      expect(learned(tokenizer, example!)).toBe("<Hello<|end|><Bye ab<|end|>".repeat(turns));
    }
  });

  test("answers with the weight 0 are context", async () => {
    const weighed = (...weights: (number | bigint | null)[]) =>
      messages.map((message) => (message.role === "assistant" ? { ...message, weight: weights.shift() } : message));
    for (const [template, first, last] of [
      [chatml, "Hello<|im_end|>\n", "Bye ab<|im_end|>\n"],
      [marking, "Hello!", "Bye ab!"],
      ["{{ 1 }}" + marking.replace("!", "{% endgeneration %}{% generation %}!"), "Hello!", "Bye ab!"],
    ] as const) {
      const tokenizer = withTemplate(template);
      const of = async (...weights: (number | bigint | null)[]) => {
        const [example, ...others] = await chatExamples(tokenizer, weighed(...weights));
        expect(others).toEqual([]);
        expect(example!.ids).toEqual((await chatExamples(tokenizer, messages))[0]!.ids);
        return learned(tokenizer, example!);
      };
      expect(await of(0, 1)).toBe(last);
      expect(await of(1, 0n)).toBe(first);
      expect(await of(null, 1)).toBe(first + last);
      expect(await of(0, 0)).toBe("");
    }
    const tokenizer = withTemplate(hiding);
    const examples = await chatExamples(tokenizer, weighed(0, 1));
    expect(examples.map((example) => learned(tokenizer, example))).toEqual(["<think></think>Bye ab;"]);
    const [none, ...others] = await chatExamples(tokenizer, weighed(0, 0));
    expect([learned(tokenizer, none!), others]).toEqual(["", []]);
  });

  test("long conversations take time in proportion to their turns", async () => {
    const tokenizer = withTemplate(chatml);
    const rendered = vi.spyOn(ChatTemplate.prototype, "render");
    const characters = async (turns: number): Promise<number> => {
      rendered.mockClear();
      await chatExamples(tokenizer, Array.from({ length: turns }, () => messages.slice(1, 3)).flat());
      return rendered.mock.results.reduce((sum, { value }) => sum + (value as string).length, 0);
    };
    expect(await characters(200)).toBeLessThan(5 * (await characters(50)));
    rendered.mockRestore();
  });

  test("answers are found where all tokens are alike and each part of a text would begin with another one", async () => {
    const space = { type: "Replace", pattern: { Regex: "\\s" }, content: "▁" };
    const json = {
      ...{ version: "1.0", added_tokens: [], pre_tokenizer: null, post_processor: null, decoder: null },
      normalizer: { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "▁" }, space] },
      model: { type: "BPE", vocab: { "<unk>": 0, "▁": 1 }, merges: [], unk_token: "<unk>", byte_fallback: false },
    };
    const chatTemplate =
      "{% for m in messages %}\n\n{{ m.content }}{% endfor %}{% if add_generation_prompt %}: {% endif %}";
    const own = new HuggingFaceTokenizer(json, { chatTemplate });
    const roles = ["user", "assistant", "assistant", "user", "assistant", "assistant", "user"];
    const [example] = await chatExamples(
      own,
      roles.map((role) => ({ role, content: "" })),
    );
    expect([...example!.ids]).toEqual(Array(8).fill(1));
    expect([...example!.mask]).toEqual([0, 0, 1, 1, 0, 1, 1, 0]);
  });

  test("a tokenizer without a template gets a plain one", async () => {
    const tokenizer = withChatTemplate(new ByteTokenizer());
    const [example] = await chatExamples(tokenizer, messages.slice(0, 3));
    expect(tokenizer.decode(example!.ids)).toBe("system: Be kind.\nuser: Hi ab\nassistant: Hello\n");
    expect(learned(tokenizer, example!)).toBe(" Hello\n");
    const own = withTemplate(chatml);
    expect(withChatTemplate(own)).toBe(own);
  });

  test("bad conversations are refused", async () => {
    const tokenizer = withTemplate(chatml);
    await expectRejection(chatExamples(tokenizer, messages.slice(0, 2)), "ERR_ARGUMENT", /message of the assistant/);
    await expectRejection(chatExamples(new ByteTokenizer(), messages), "ERR_ARGUMENT", /withChatTemplate/);
    const lying = withTemplate("{% if add_generation_prompt %}X{% endif %}{{ messages[0].content }}");
    await expectRejection(chatExamples(lying, messages), "ERR_ARGUMENT", /continues the prompt of an answer/);
  });
});

describe("readExamples", () => {
  const tokenizer = withTemplate(chatml);
  const read = (...lines: string[]) => {
    const file = path.join(temporaryFolder(), "chats.jsonl");
    writeFileSync(file, lines.join("\n"));
    return readExamples(file, tokenizer);
  };

  test("reads conversations, completions and texts", async () => {
    const examples = await read(
      JSON.stringify({ messages }),
      "",
      '{"prompt": "ab:", "completion": " c"}\r',
      '{"text": "abc"}',
    );
    expect(examples.map((example) => learned(tokenizer, example))).toEqual([
      "Hello<|im_end|>\nBye ab<|im_end|>\n",
      " c<|end|>",
      "<|begin|>abc<|end|>",
    ]);
    expect(await textExample(tokenizer, "abc")).toEqual(examples[2]);
  });

  test("reads over a byte order mark", async () => {
    const [example] = await read('\ufeff{"text": "abc"}');
    expect(learned(tokenizer, example!)).toBe("<|begin|>abc<|end|>");
  });

  test("a prompt and a completion may be messages, and a bad answer teaches nothing", async () => {
    const [, asked, answered] = messages;
    const left: number[] = [];
    const lines = [
      { prompt: [asked], completion: [answered], label: true },
      { prompt: [asked], completion: [answered], label: false },
      { prompt: "Hi", completion: [answered] },
      { prompt: [asked, answered, asked], completion: "Yes" },
      { prompt: "ab:", completion: " c", label: 0 },
      { prompt: "ab:", completion: " c", label: "False" },
      { prompt: "ab:", completion: " d", label: "letters" },
      { messages, label: false },
      { text: "abc", label: 0 },
    ];
    const file = path.join(temporaryFolder(), "kto.jsonl");
    writeFileSync(file, lines.map((line) => JSON.stringify(line)).join("\n"));
    const examples = await readExamples(file, tokenizer, { onLeftOut: (line) => left.push(line) });
    expect(examples.map((example) => learned(tokenizer, example))).toEqual([
      "Hello<|im_end|>\n",
      "Hello<|im_end|>\n",
      "Yes<|im_end|>\n",
      " d<|end|>",
      "<|begin|>abc<|end|>",
    ]);
    expect(left).toEqual([2, 5, 6, 8]);
  });

  test.each([
    ["{", /chats.jsonl:2: .*JSON/],
    ["3", /chats.jsonl:2: expected an object, got 3/],
    ['{"prompt": "a"}', /:2: expected an object with messages/],
    [
      '{"messages": [{"role": "assistant", "content": "a", "weight": 2}]}',
      /:2: expected messages\[0\].weight to be 0 or 1/,
    ],
    ['{"prompt": [], "completion": 3}', /:2: expected an object with messages/],
    ['{"messages": []}', /:2: expected messages to be an array/],
    ['{"messages": [{"role": "user"}]}', /:2: expected messages\[0\] to have a role and a content/],
    ['{"messages": [{"role": "user", "content": "a"}]}', /:2: chatExamples: expected a message of the assistant/],
  ])("names the file and the line of %s", async (line, pattern) => {
    await expectRejection(read('{"text": "a"}', line), "ERR_FORMAT", pattern);
  });

  test("a missing file is named", async () => {
    await expectRejection(readExamples("/nowhere.jsonl", tokenizer), "ERR_IO", /nowhere/);
  });
});

/** Returns examples of these lengths, of which the tokens at `counted` places count. */
function examplesOf(lengths: readonly number[], seed = 5): TrainingExample[] {
  const random = new Random(seed);
  return lengths.map((length) => ({
    ids: Int32Array.from({ length }, () => random.integer(11)),
    mask: Uint8Array.from({ length }, (_, i) => Number(i === length - 1 || random.uniform() < 0.5)),
  }));
}

describe("packExamples", () => {
  test("fills sequences by best fit, without loss of a token", () => {
    const examples = examplesOf([3, 6, 9, 4, 5, 2]);
    const packed = packExamples(examples, { contextLength: 8 });
    expect(packed.sequences).toBe(3);
    const rows = Array.from({ length: 3 }, (_, i) => packed.sequence(i));
    expect(rows.map(({ documents }) => documents)).toEqual([[8], [5, 3], [4, 2, 1]]);
    expect(rows[1]!.inputs).toEqual(Int32Array.of(...examples[1]!.ids.slice(0, -1), ...examples[3]!.ids.slice(0, -1)));
    const counted = rows.flatMap(({ targets }) => [...targets].filter((target) => target !== -100)).length;
    expect(counted).toBe(packed.targets);
    expect(packExamples(examples, { contextLength: 8, packing: false }).sequences).toBe(6);
  });

  test("cuts long examples by the rule, and drops those without anything to learn", () => {
    const ids = Int32Array.from({ length: 9 }, (_, i) => i);
    const example = { ids, mask: Uint8Array.of(0, 0, 0, 0, 0, 0, 1, 1, 1) };
    const whole = { ids: Int32Array.of(1, 2), mask: Uint8Array.of(0, 1) };
    const pack = (truncation: "end" | "start" | "drop") =>
      packExamples([example, whole], { contextLength: 4, truncation });
    expect(pack("start").sequence(0)).toMatchObject({
      inputs: Int32Array.of(4, 5, 6, 7),
      targets: Int32Array.of(-100, 6, 7, 8),
    });
    expect(pack("start")).toMatchObject({ examples: 2, truncated: 1, dropped: 0, targets: 4 });
    for (const rule of ["end", "drop"] as const)
      expect(pack(rule)).toMatchObject({ examples: 1, truncated: 0, dropped: 1 });
    expectError(() => packExamples([example], { contextLength: 4 }), "ERR_ARGUMENT", /token to learn, got 1 without/);
    expectError(() => packExamples([], { contextLength: 4 }), "ERR_ARGUMENT", /got none/);
    expectError(() => packExamples([{ ids, mask: new Uint8Array(2) }], { contextLength: 4 }), "ERR_SHAPE");
    expectError(() => packExamples([whole], { contextLength: 0 }), "ERR_RANGE");
    expectError(() => packExamples([whole], { contextLength: 4, truncation: "no" as never }), "ERR_ARGUMENT");
  });
});

const size = { vocabularySize: 11, contextLength: 8, layers: 2, heads: 2, width: 16 };

onEachDevice((device) => {
  const models = [
    ["GPT", () => new GPT(size, { device, seed: 1 })],
    ["Llama", () => new Llama({ ...size, feedForwardWidth: 24 }, { device, seed: 1 })],
  ] as const;
  const examples = examplesOf([3, 6, 9, 4, 5, 2, 7, 8]);

  test.each(models)("%s: a packed example has the loss that it has alone", async (_, make) => {
    using model = make();
    const { loss, tokens } = await evaluate(model, packExamples(examples, size), { batchSize: 2 });
    let [sum, count] = [0, 0];
    for (const { ids, mask } of examples) {
      const shape = [1, ids.length - 1];
      const targets = ids.slice(1).map((id, i) => (mask[i + 1] ? id : -100));
      const counted = targets.filter((id) => id >= 0).length;
      using inputs = tensor(ids.slice(0, -1), shape, { device });
      using wanted = tensor(targets, shape, { device });
      sum += counted * (await noGrad(() => model.loss(inputs, wanted)).item());
      count += counted;
    }
    expect(tokens).toBe(count);
    expect(loss).toBeCloseTo(sum / count, 5);
  });

  test("micro-batches with uneven masks make the step that one batch makes", async () => {
    const data = packExamples(examplesOf([9, 9, 9, 9, 9, 9, 9, 3], 7), { ...size, packing: false });
    const runs: { losses: number[]; after: Record<string, Float32Array> }[] = [];
    for (const [batchSize, gradientAccumulation] of [
      [8, 1],
      [2, 4],
      [1, 8],
    ] as const) {
      using model = models[0][1]();
      using trainer = new Trainer({ model, data, batchSize, gradientAccumulation, steps: 2, lr: 1e-2, minLr: 1e-2 });
      runs.push({ losses: losses(await collect(trainer.run())), after: await values(model) });
    }
    for (const { losses, after } of runs.slice(1)) {
      for (const [i, loss] of losses.entries()) expect(loss).toBeCloseTo(runs[0]!.losses[i]!, 5);
      for (const [name, numbers] of Object.entries(after))
        for (const [i, x] of numbers.entries())
          expect(Math.abs(x - runs[0]!.after[name]![i]!), name).toBeLessThan(2e-4);
    }
  });

  test("a step without a target has no loss and no gradient", async () => {
    using model = models[0][1]();
    const before = await values(model);
    const sequence = () => ({ inputs: new Int32Array(8), targets: new Int32Array(8).fill(-100), documents: [8] });
    const data = { sequences: 4, contextLength: 8, sequence };
    using trainer = new Trainer({ model, data, batchSize: 2, steps: 1, lr: 1e-2, optimizer: { weightDecay: 0 } });
    expect(losses(await collect(trainer.run()))).toEqual([0]);
    expect(await values(model)).toEqual(before);
  });

  test.each([
    [false, "frozen"],
    [true, "frozen"],
    [true, "partly trained"],
  ] as const)("a run with an adapter resumes to the bit (reference: %s, model: %s)", async (refers, kind) => {
    const base = temporaryFolder();
    using source = new Llama({ ...size, feedForwardWidth: 24, interleaved: true }, { device, seed: 1 });
    await savePretrained(base, source);
    const prepare = async () => {
      const { model } = await load(base, { device, kind: "causal" });
      addAdapter(model, { rank: 2, dropout: 0.25, dora: true, name: "polite" });
      if (kind === "partly trained") model.parameters().at(-1)!.requiresGrad = true;
      return model;
    };
    const options = { data: packExamples(examples, size), batchSize: 2, lr: 1e-2, steps: 6 };
    using one = await prepare();
    using whole = new Trainer({ ...options, model: one });
    const expected = losses(await collect(whole.run()));

    const folder = temporaryFolder();
    const checkpoint = { folder, ...(refers && { base }) };
    using half = await prepare();
    const stop = new AbortController();
    using first = new Trainer({ ...options, model: half, checkpoint, signal: stop.signal });
    const begun: number[] = [];
    for await (const event of first.run()) if (event.type === "step" && begun.push(event.loss) === 3) stop.abort();
    const resume = await loadCheckpoint(folder, { device });
    const contents = Object.keys(resume.optimizer.moments);
    expect(contents.every((name) => name.includes(".adapter.polite.") || kind !== "frozen")).toBe(true);
    using rest = new Trainer({ ...options, model: resume.model, resume, checkpoint });
    expect([...begun.slice(0, resume.state.step), ...losses(await collect(rest.run()))]).toEqual(expected);
    expect(await values(resume.model)).toEqual(await values(one));
    resume.model.dispose();
  });

  test("a run over a quantised model resumes to the bit, and its checkpoints hold the adapter alone", async () => {
    const base = temporaryFolder();
    using source = new Llama({ ...size, feedForwardWidth: 24 }, { device, seed: 1 });
    await savePretrained(base, source);
    const quantize = { bits: 4, groupSize: 64 } as const;
    const prepare = async () => {
      const { model } = await load(base, { device, kind: "causal", quantize });
      addAdapter(model, { rank: 2, dropout: 0.25 });
      return model;
    };
    const options = { data: packExamples(examples, size), batchSize: 2, lr: 1e-2 };
    using one = await prepare();
    using whole = new Trainer({ ...options, model: one, steps: 4 });
    const expected = losses(await collect(whole.run()));
    const folder = temporaryFolder();
    const checkpoint = { folder, base };
    using half = await prepare();
    const stop = new AbortController();
    using first = new Trainer({ ...options, model: half, checkpoint, steps: 4, signal: stop.signal });
    const begun: number[] = [];
    for await (const event of first.run()) if (event.type === "step" && begun.push(event.loss) === 2) stop.abort();
    const resume = await loadCheckpoint(folder, { device });
    expect(resume.model.isQuantized).toBe(true);
    using rest = new Trainer({ ...options, model: resume.model, resume, checkpoint, steps: 4 });
    expect([...begun.slice(0, resume.state.step), ...losses(await collect(rest.run()))]).toEqual(expected);
    expect(await values(resume.model)).toEqual(await values(one));

    const refused = (model: CausalDecoder, options: object, pattern: RegExp) =>
      expectError(
        () => new Trainer({ data: packExamples(examples, size), steps: 1, model, ...options }),
        "ERR_ARGUMENT",
        pattern,
      );
    refused(half, { checkpoint: { folder } }, /checkpoint.base to name the model that was quantised/);
    half.parameters()[0]!.requiresGrad = true;
    refused(half, {}, /a quantised model to train an adapter alone/);
    using partly = models[0][1]();
    partly.h[0]!.quantize();
    refused(partly, {}, /all layers to be quantised in the same way, got no quantisation and 8 bits in groups of 32/);
    const file = path.join(resume.path, "trainer.json");
    const content = JSON.parse(readFileSync(file, "utf8")) as object;
    writeFileSync(file, JSON.stringify({ ...content, baseQuantized: { bits: 3 } }));
    await expectRejection(loadCheckpoint(resume.path, { device }), "ERR_FORMAT", /baseQuantized to have the bits/);
    resume.model.dispose();
  });

  test("freezing all but some layers gives the same run, resumed or not, and saves them", () => {
    using model = models[0][1]();
    expect(freeze(model, ["wte", "wpe", "h.0"]).length).toBe(14);
    expect(model.parameterCount({ trainable: true })).toBeLessThan(model.parameterCount());
  });
});
