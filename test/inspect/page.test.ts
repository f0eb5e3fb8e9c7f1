/** The data in a page of `heed inspect`, compared with the tools, with definitions and with finite differences. */
import { inflateRawSync } from "node:zlib";
import { beforeAll, describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import {
  inspectionPage,
  type InspectedModel,
  logitAttribution,
  logitLens,
  replaceWith,
  run,
  runWithCache,
} from "../../lib/inspect/index.js";
import type { Grid, PageData } from "../../lib/inspect/page/data.js";
import { Bert } from "../../lib/models/bert.js";
import { BertForMaskedLM, BertForSequenceClassification } from "../../lib/models/bert-heads.js";
import type { CausalDecoder } from "../../lib/models/causal-decoder.js";
import { EncoderDecoder } from "../../lib/models/encoder-decoder.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { T5 } from "../../lib/models/t5.js";
import { mul } from "../../lib/ops/binary.js";
import { logProbabilities } from "../../lib/ops/sample.js";
import { reshape } from "../../lib/ops/views.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { dist } from "../support/dist.js";
import { expectRejection } from "../support/errors.js";
import { shaken } from "../support/shaken.js";
import { onEachDevice } from "../support/targets.js";

const words = Array.from({ length: 19 }, (_, id) => `w${id}`);
const textOf = (id: number): string => words[id]!;
const sizes = { vocabularySize: 19, contextLength: 9, layers: 2, heads: 4, width: 8 };
const tokens = Int32Array.of(3, 1, 4, 1, 5, 9, 2);

beforeAll(() => void dist("inspect/web/index.html"));

/** Returns the data of a page. */
function dataOf(page: string): PageData {
  return JSON.parse(/<script type="application\/json" id="data">(.*)<\/script>/.exec(page)![1]!) as PageData;
}

/** Returns the numbers of a table of a page. */
function numbersOf(page: string, { blob, form, scale }: Grid): number[] {
  const packed = new RegExp(`id="blob-${blob}">([^<]*)<`).exec(page)![1]!;
  const codes = inflateRawSync(Buffer.from(packed, "base64"));
  return Array.from(codes, (code) => (form === "root" ? scale * (code / 255) ** 2 : (scale * (code - 128)) / 127));
}

const close = (found: readonly number[], wanted: ArrayLike<number>, tolerance: number): void => {
  expect(found.length).toBe(wanted.length);
  for (const [i, value] of found.entries()) expect(Math.abs(value - wanted[i]!), `number ${i}`).toBeLessThan(tolerance);
};

onEachDevice((device) => {
  test.each([
    ["GPT", () => new GPT({ ...sizes, residualScale: 0.5 }, { device })],
    ["Llama", () => new Llama({ ...sizes, kvHeads: 2, feedForwardWidth: 12 }, { device })],
  ] as const)("%s", async (_name, make) => {
    using model: CausalDecoder = shaken<CausalDecoder>(make());
    using ids = tensor(tokens, [1, tokens.length], { device });
    const passes: number[][] = [];
    const page = await inspectionPage(model, ids, { textOf, neurons: 3, onProgress: (...done) => passes.push(done) });
    const data = dataOf(page);
    expect(data.sequences).toEqual([{ title: "Tokens", tokens: Array.from(tokens, textOf) }]);
    expect(passes.at(-1)).toEqual([12, 12]); // 2 layers · (4 heads + MLP) and two passes for the rest
    expect(passes.length).toBe(12);

    using cache = runWithCache(model, ids, { names: /hook_pattern$|hook_post$/ });
    const [attention] = data.attention;
    expect(attention).toMatchObject({ layers: 2, heads: 4, queries: 0, keys: 0 });
    const pattern = await cache.get("blocks.1.attn.hook_pattern").data();
    // The steps of the codes are largest near 1: 1 − (254/255)².
    close(numbersOf(page, attention!.patterns[4 + 2]!), pattern.subarray(2 * 49, 3 * 49), 0.005);

    const { lens, attribution, ablation, neurons } = data;
    const lenses = logitLens(model, ids);
    expect(lens!.rows).toEqual(["embedding", "after layer 0", "output"]);
    for (const [row, logits] of lenses.entries()) {
      const values = await logits.data();
      for (const t of tokens.keys()) {
        const own = [...values.subarray(t * 19, (t + 1) * 19)];
        const order = [...own.keys()].sort((a, b) => own[b]! - own[a]!).slice(0, 5);
        const total = own.reduce((sum, logit) => sum + Math.exp(logit), 0);
        const at = (row * tokens.length + t) * 5;
        expect(lens!.top.slice(at, at + 5).map((i) => lens!.texts[i])).toEqual(order.map(textOf));
        close(
          lens!.probabilities.slice(at, at + 5),
          order.map((id) => Math.exp(own[id]!) / total),
          1e-3,
        );
      }
      logits.dispose();
    }

    // What is predicted after each token is the next one, and at the end the likeliest.
    expect(attribution!.columns.slice(0, -1)).toEqual(Array.from(tokens.subarray(1), textOf));
    const column = (values: readonly number[], t: number): number[] => values.filter((_, i) => i % tokens.length === t);
    for (const t of [0, 3, 6]) {
      const target = words.indexOf(attribution!.columns[t]!);
      const parts = await logitAttribution(model, ids, { tokens: [target], position: t });
      const named = new Map(parts.map(({ name, values }) => [name, values[0]!]));
      const found = column(attribution!.values, t);
      expect(found.reduce((sum, value) => sum + value, 0)).toBeCloseTo(attribution!.totals[t]!, 2);
      for (const [i, { layer, head, attention: where }] of attribution!.components.entries())
        if (where !== null) {
          const name = head === null ? `blocks.${layer}.mlp` : `blocks.${layer}.attn.head.${head}`;
          expect(found[i]! - named.get(name)!, name).toBeCloseTo(0, 2);
        }
    }

    const scores = async (hooks: object): Promise<Float32Array> => {
      using found = noGrad(() =>
        scope(() => {
          const targets = tensor(
            Int32Array.from(ablation!.columns, (name) => words.indexOf(name)),
            [7, 1],
            { device },
          );
          return logProbabilities(reshape(run(model, ids, { hooks }), [7, 19]), targets);
        }),
      );
      return await found.data();
    };
    const clean = await scores({});
    close(ablation!.totals, clean, 1e-4);
    const without = await scores({ "blocks.1.attn.hook_z": replaceWith(0, { heads: [2] }) });
    const part = ablation!.components.findIndex(({ layer, head }) => layer === 1 && head === 2);
    close(
      ablation!.values.slice(part * 7, part * 7 + 7),
      without.map((score, t) => score - clean[t]!),
      2e-3,
    );

    const post = await cache.get("blocks.0.mlp.hook_post").data();
    const width = post.length / tokens.length;
    const largest = Math.max(...post.map(Math.abs));
    expect(neurons[0]!.neurons.length).toBe(3);
    expect(neurons[0]!.count).toBe(width);
    for (const [row, neuron] of neurons[0]!.neurons.entries())
      close(
        numbersOf(page, neurons[0]!.values).slice(row * 7, row * 7 + 7),
        Array.from(tokens, (_, t) => post[t * width + neuron]!),
        largest / 127,
      );
    const peak = (neuron: number): number =>
      Math.max(...Array.from(tokens, (_, t) => Math.abs(post[t * width + neuron]!)));
    expect(peak(neurons[0]!.neurons[0]!)).toBe(largest);
  });

  test("a classifier: labels, and first-order attribution as a finite difference gives it", async () => {
    const bert = new Bert({ ...sizes, tokenTypes: 0 }, { device });
    using model = shaken(new BertForSequenceClassification(bert, { labels: ["bad", "good"] }));
    using ids = tensor(tokens, [1, tokens.length], { device });
    const { attribution, ablation, lens } = dataOf(await inspectionPage(model, ids, { textOf }));
    expect(lens).toBeNull();
    expect(ablation!.columns).toEqual(["bad", "good"]);
    const label = ablation!.totals[0]! > ablation!.totals[1]! ? 0 : 1;
    expect(attribution!.columns).toEqual([["bad", "good"][label]]);
    const score = async (factor: number): Promise<number> => {
      const scaled = (value: FloatTensor): FloatTensor => mul(value, factor);
      using logits = noGrad(() => run(model, ids, { hooks: { "blocks.0.hook_mlp_out": scaled } }));
      const values = [...(await logits.data())];
      return values[label]! - Math.log(values.reduce((sum, logit) => sum + Math.exp(logit), 0));
    };
    const difference = ((await score(1.01)) - (await score(0.99))) / 0.02;
    const part = attribution!.components.findIndex(({ layer, head }) => layer === 0 && head === null);
    expect(attribution!.values[part]).toBeCloseTo(difference, 2);
    close([ablation!.values[part * 2 + label]!], [(await score(0)) - (await score(1))], 2e-3);
  });

  test("every other kind of model", async () => {
    using ids = tensor(tokens, [1, tokens.length], { device });
    using target = tensor(Int32Array.of(0, 7, 8), [1, 3], { device });
    const titles = ["Encoder", "Decoder", "Decoder to source"];
    const pair = {
      startToken: 0,
      endToken: 2,
      sourceVocabularySize: 19,
      contextLength: 9,
      layers: 2,
      heads: 4,
      width: 8,
    };
    for (const [model, stacks] of [
      [new Bert(sizes, { device }), ["Self-attention"]],
      [new BertForMaskedLM(new Bert(sizes, { device })), ["Self-attention"]],
      [new T5({ vocabularySize: 19, layers: 2, heads: 4, width: 8 }, { device }), titles],
      [new EncoderDecoder(pair, { device }), titles],
    ] as const) {
      const input = stacks.length > 1 ? { source: ids, target } : ids;
      const page = await inspectionPage<InspectedModel>(shaken<InspectedModel>(model), input, { textOf });
      const { attention, attribution, ablation, neurons } = dataOf(page);
      expect(attention.map(({ title }) => title)).toEqual(stacks);
      expect(neurons.length).toBe(stacks.length > 1 ? 4 : 2);
      const last = attention.at(-1)!;
      expect([last.patterns[0]!.rows, last.patterns[0]!.columns]).toEqual(stacks.length > 1 ? [3, 7] : [7, 7]);
      // Without a head there is nothing to attribute, but states turn.
      expect(attribution === null).toBe(model instanceof Bert);
      expect(ablation!.columns.length).toBe(stacks.length > 1 ? 3 : 7);
      expect(ablation!.values.some((value) => Math.abs(value) > 1e-4)).toBe(true);
      expect(ablation!.values.every(Number.isFinite)).toBe(true);
      model.dispose();
    }
  });
});

describe("the file", () => {
  test("texts stay texts, and nothing is fetched", async () => {
    const html = "</script><script>alert(1)</script><!--";
    using model = new GPT(sizes, { device: "cpu" });
    using ids = tensor(tokens, [1, tokens.length]);
    const page = await inspectionPage(model, ids, { textOf: () => html, title: html, ablations: false, neurons: 0 });
    expect(page.split("</script>").length).toBe(1 + 1 + 1 + 8); // the script, the data and 8 heads
    expect(page.replace("http://www.w3.org/2000/svg", "")).not.toMatch(/https?:\/\//);
    expect(dataOf(page)).toMatchObject({ title: html, ablation: null, neurons: [] });
  });

  test("bad input", async () => {
    using model = new GPT(sizes, { device: "cpu" });
    using ids = tensor(tokens, [1, tokens.length]);
    using two = tensor(Int32Array.of(1, 2, 3, 4), [2, 2]);
    await expectRejection(inspectionPage(model, two, { textOf }), "ERR_SHAPE");
    await expectRejection(inspectionPage(model, ids, { textOf, neurons: -1 }), "ERR_RANGE");
    await expectRejection(inspectionPage(model, ids, { textOf: "text" as never }), "ERR_ARGUMENT");
    await expectRejection(inspectionPage<GPT>({} as never, ids, { textOf }), "ERR_ARGUMENT");
    using t5 = new T5({ vocabularySize: 19, layers: 1, heads: 2, width: 8 }, { device: "cpu" });
    await expectRejection(inspectionPage(t5, ids as never, { textOf }), "ERR_ARGUMENT");
  });
});
