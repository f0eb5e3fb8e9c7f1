/**
 * The contract of models: the parts of every family by their role are those that its forward pass computes with, and a
 * family that the library has never seen is trained, adapted, generated from and looked into.
 */
import { describe, expect, test } from "vitest";
import { addAdapter, mergeAdapter } from "../../lib/adapters/adapters.js";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import { tokenData } from "../../lib/data/token-data.js";
import { Engine } from "../../lib/engine/engine.js";
import {
  decomposeResidual,
  headCircuit,
  type InspectedModel,
  type DecoderHookName,
  type HookName,
  type InputOf,
  logitLens,
  runWithCache,
} from "../../lib/inspect/index.js";
import { stackOf } from "../../lib/inspect/hook-names.js";
import { Bert } from "../../lib/models/bert.js";
import { CausalDecoder } from "../../lib/models/causal-decoder.js";
import { EncoderDecoder } from "../../lib/models/encoder-decoder.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { initializerOf } from "../../lib/models/model.js";
import type { DecoderForwardOptions } from "../../lib/models/causal-decoder.js";
import { SequenceToSequence } from "../../lib/models/sequence-to-sequence.js";
import { T5 } from "../../lib/models/t5.js";
import type { AttentionContext } from "../../lib/nn/attend.js";
import type { Block, BlockParts, BlockStack, Projection, StreamNorm } from "../../lib/nn/block-parts.js";
import type { DropoutSeeds } from "../../lib/nn/dropout.js";
import { Dropout } from "../../lib/nn/dropout.js";
import { Embedding } from "../../lib/nn/embedding.js";
import { FeedForward } from "../../lib/nn/feed-forward.js";
import { GroupedAttention, type GroupedAttentionContext } from "../../lib/nn/grouped-attention.js";
import type { Initializer } from "../../lib/nn/init.js";
import { Module } from "../../lib/nn/module.js";
import { see } from "../../lib/nn/observer.js";
import { ResidualStream } from "../../lib/nn/residual-stream.js";
import { RmsNorm } from "../../lib/nn/rms-norm.js";
import { rotaryTable } from "../../lib/ops/rotary-table.js";
import { sub } from "../../lib/ops/binary.js";
import { contiguous, narrow, reshape } from "../../lib/ops/views.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { keep, scope } from "../../lib/core/scope.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { Trainer } from "../../lib/train/trainer.js";
import { shakeAdapter } from "../adapters/support.js";
import { someTokens } from "../generate/models.js";
import { expectNear } from "../support/close.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { shaken } from "../support/shaken.js";
import { onEachDevice } from "../support/targets.js";

const sizes = { vocabularySize: 61, contextLength: 24, layers: 2, heads: 4, width: 24 };
const grouped = { ...sizes, kvHeads: 2, feedForwardWidth: 40 };
const pair = { ...sizes, sourceVocabularySize: 61, startToken: 0, endToken: 1 };

/** Models of every family whose blocks differ in their parts. */
const models: Record<string, (device: string) => InspectedModel & Module> = {
  GPT: (device) => new GPT(sizes, { device }),
  "GPT, gated, with RMS norms": (device) =>
    new GPT({ ...sizes, gated: true, normalization: "rms", bias: false }, { device }),
  "GPT, grouped heads, rotary, scaled": (device) =>
    new GPT({ ...sizes, kvHeads: 2, positions: "rotary", residualScale: 0.5, tied: false }, { device }),
  Llama: (device) => new Llama(grouped, { device }),
  "Llama, with biases and heads of another size": (device) =>
    new Llama({ ...grouped, headSize: 10, attentionBias: true, feedForwardBias: true, tied: true }, { device }),
  Bert: (device) => new Bert(sizes, { device }),
  "EncoderDecoder, norms first": (device) => new EncoderDecoder({ ...pair, norm: "pre" }, { device }),
  "EncoderDecoder, norms last": (device) => new EncoderDecoder({ ...pair, norm: "post" }, { device }),
  T5: (device) => new T5({ ...sizes, headSize: 5 }, { device }),
  "T5, gated": (device) => new T5({ ...sizes, gated: true, activation: "gelu" }, { device }),
};

const idsOf = (values: readonly number[], device: string): IntTensor =>
  tensor(Int32Array.from(values), [1, values.length], { device });

/** Reads the values of one pass. */
type Values = (hook: string) => FloatTensor;

/**
 * Expects the parts of a stack's blocks to compute what the forward pass computed. What a part adds to the residual
 * stream, and the stream after it, say what the part read, wherever the norms are.
 */
async function expectParts({ blocks }: BlockStack, at: (layer: number) => Values, encoded: FloatTensor | null) {
  for (const [layer, { parts }] of blocks.entries()) {
    const see = at(layer);
    const { attention, crossAttention, feedForward, residualScale } = parts;
    const expectComputed = async (hook: string, { layer, begin, end }: Projection, x: FloatTensor, scale = 1) => {
      const computed = noGrad(() => scope(() => contiguous(narrow(layer.forward(x), -1, begin, end - begin))));
      using _ = computed;
      const expected = (await computed.data()).map((value) => value * scale);
      expectNear(hook, await see(hook).data(), expected, 1e-4);
    };
    const reads = ({ norm }: { norm: StreamNorm | null }, x: FloatTensor) => (norm ? norm.forward(x) : x);
    const before = (place: string, part: string) => sub(see(`hook_resid_${place}`), see(`hook_${part}_out`));
    const heads = (x: FloatTensor) => reshape(x, [x.shape[0]!, x.shape[1]!, x.shape[2]! * x.shape[3]!]);

    const input = reads(attention, see("hook_resid_pre"));
    for (const role of ["q", "k", "v"] as const) await expectComputed(`attn.hook_${role}`, attention[role], input);
    await expectComputed("hook_attn_out", attention.o, heads(see("attn.hook_z")), residualScale);
    expect(see("attn.hook_q").shape[2]).toBe(attention.heads);
    expect(see("attn.hook_k").shape[2]).toBe(attention.kvHeads);

    expect(crossAttention === null).toBe(encoded === null);
    if (crossAttention) {
      await expectComputed(
        "cross_attn.hook_q",
        crossAttention.q,
        reads(crossAttention, before("mid_cross", "cross_attn")),
      );
      for (const role of ["k", "v"] as const)
        await expectComputed(`cross_attn.hook_${role}`, crossAttention[role], encoded!);
      await expectComputed("hook_cross_attn_out", crossAttention.o, heads(see("cross_attn.hook_z")));
    }

    const middle = reads(feedForward, before("post", "mlp"));
    const { gate, up, down } = feedForward;
    await expectComputed("mlp.hook_pre", gate ?? up, middle);
    if (gate) await expectComputed("mlp.hook_pre_linear", up, middle);
    await expectComputed("hook_mlp_out", down, see("mlp.hook_post"), residualScale);
  }
}

/** Block of a family that the library does not have: grouped heads, and a feed-forward without a gate. */
class TowerFloor extends Module implements Block {
  readonly before_looking: RmsNorm;
  readonly looking: GroupedAttention;
  readonly before_thinking: RmsNorm;
  readonly thinking: FeedForward;
  readonly drop: Dropout;

  constructor({ width, heads, kvHeads, feedForwardWidth }: typeof grouped, init: Initializer, seeds: DropoutSeeds) {
    super();
    this.before_looking = new RmsNorm({ width }, init);
    this.looking = new GroupedAttention({ width, heads, kvHeads }, init, seeds);
    this.before_thinking = new RmsNorm({ width }, init);
    this.thinking = new FeedForward({ width, feedForwardWidth }, init);
    this.drop = new Dropout(0, seeds);
  }

  get parts(): BlockParts {
    return {
      attention: { ...this.looking.projections, norm: this.before_looking },
      crossAttention: null,
      feedForward: { ...this.thinking.projections, norm: this.before_thinking },
      rotary: true,
      norms: "pre",
      residualScale: 1,
    };
  }

  forward(x: FloatTensor, context: GroupedAttentionContext): FloatTensor {
    const stream = new ResidualStream(this.drop, context.observer);
    const [ln1, ln2, layers] = stream.observers("ln1", "ln2", "mlp");
    return scope(() => {
      x = stream.see("hook_resid_pre", x);
      const look = (sum: FloatTensor | null) => this.looking.forward(this.before_looking.forward(x, ln1), context, sum);
      const h = stream.add("attn", "mid", x, look);
      const think = (sum: FloatTensor | null) =>
        this.thinking.forward(this.before_thinking.forward(h, ln2), sum, layers);
      return stream.add("mlp", "post", h, think);
    });
  }
}

/** Family that the library does not have, whose layers have names of their own. */
class Tower extends CausalDecoder<GroupedAttentionContext> {
  readonly config = { ...grouped, window: 0, dropout: 0 };
  readonly headSize = grouped.width / grouped.heads;
  readonly addsPositions = false;
  readonly embeddingScale = 1;
  readonly ground: Embedding;
  readonly floors: TowerFloor[];
  readonly roof: RmsNorm;
  readonly lm_head = null;
  readonly table: FloatTensor;

  constructor(device: string) {
    super("Tower", { device, seed: 4 });
    const init = initializerOf({ device, seed: 4 });
    const { vocabularySize: count, width, contextLength: length, layers } = this.config;
    this.ground = new Embedding({ count, width }, init);
    this.floors = Array.from({ length: layers }, () => new TowerFloor(grouped, init, this.dropoutSeeds));
    this.roof = new RmsNorm({ width }, init);
    this.table = keep(rotaryTable({ size: this.headSize, length, device }));
  }

  get tokens(): Embedding {
    return this.ground;
  }

  get blocks(): readonly TowerFloor[] {
    return this.floors;
  }

  get finalNorm(): RmsNorm {
    return this.roof;
  }

  protected embed(ids: IntTensor, { observer = null }: DecoderForwardOptions): FloatTensor {
    return see(observer, "hook_embed", this.ground.forward(ids, { dtype: this.dtype }));
  }

  protected contextOf(pass: AttentionContext): GroupedAttentionContext {
    return { ...pass, table: this.table };
  }
}

onEachDevice((device) => {
  test.each(Object.keys(models))("the parts by role are those of the forward pass: %s", async (name) => {
    using model = shaken(models[name]!(device));
    const text = idsOf(someTokens(7, 1), device);
    const input =
      model instanceof SequenceToSequence ? { source: text, target: idsOf(someTokens(5, 2), device) } : text;
    using cache = runWithCache(model, input as InputOf<InspectedModel>, { names: () => true });
    const at = (stack: string) => (layer: number) => (hook: string) =>
      cache.get(`${stack}.${layer}.${hook}` as HookName);
    if (!(model instanceof SequenceToSequence)) {
      await expectParts(stackOf(model), at("blocks"), null);
      return;
    }
    using encoded = noGrad(() => model.encode(text));
    await expectParts(model.encoder, at("encoder"), null);
    await expectParts(model.decoder, at("decoder"), encoded);
  });

  describe("a family that the library does not have", () => {
    const prompt = someTokens(6, 3);
    /** Returns the likeliest tokens by definition: a whole pass for each. */
    async function greedy(model: CausalDecoder, count: number): Promise<number[]> {
      const tokens = [...prompt];
      for (let i = 0; i < count; i++) {
        using logits = noGrad(() => model.forward(idsOf(tokens, device), { lastOnly: true }));
        const row = await logits.data();
        tokens.push(row.indexOf(Math.max(...row)));
      }
      return tokens.slice(prompt.length);
    }

    test("generates, also in an engine, in 8 bits and with an adapter", async () => {
      using model = shaken(new Tower(device)).eval();
      const request = { tokens: Int32Array.from(prompt), maxTokens: 8, temperature: 0, stopTokens: [] };
      const generated = async (): Promise<number[]> => {
        await using engine = new Engine(model, { maxSequences: 2, pageSize: 4 });
        const [first, second] = await Promise.all([engine.generate(request), engine.generate(request)]);
        expect(second.tokens).toEqual(first.tokens);
        return [...first.tokens];
      };
      const plain = await greedy(model, 8);
      expect(await generated()).toEqual(plain);
      addAdapter(model, { rank: 2, targets: ["looking.*_proj"] });
      shakeAdapter(model);
      const adapted = await greedy(model, 8);
      expect(adapted).not.toEqual(plain);
      expect(await generated()).toEqual(adapted);
      mergeAdapter(model);
      model.quantize({ bits: 8 });
      expect(await generated()).toEqual(await greedy(model, 8));
    });

    test("is trained", async () => {
      using model = new Tower(device);
      const ids = (from: number) =>
        idsOf(
          Array.from({ length: 18 }, (_, i) => [3, 1, 4, 1, 5, 9][(from + i) % 6]!),
          device,
        );
      const lossOf = async (): Promise<number> => {
        using loss = noGrad(() => model.loss(ids(0), ids(1)));
        return (await loss.data())[0]!;
      };
      const data = tokenData(Int32Array.from({ length: 400 }, (_, i) => [3, 1, 4, 1, 5, 9][i % 6]!));
      using trainer = new Trainer({ model, data, batchSize: 4, steps: 30, lr: 1e-2 });
      const before = await lossOf();
      await trainer.train();
      expect(await lossOf()).toBeLessThan(before / 3);
    });

    test("is taken apart by the inspector", async () => {
      using model = shaken(new Tower(device)).eval();
      const ids = idsOf(prompt, device);
      using cache = runWithCache(model, ids, { names: () => true });
      await expectParts(model, (layer) => (hook) => cache.get(`blocks.${layer}.${hook}` as DecoderHookName), null);
      using logits = noGrad(() => model.forward(ids));
      const lens = logitLens(model, ids);
      expectNear("the last row of the lens", await lens.at(-1)!.data(), await logits.data(), 1e-4);
      for (const row of lens) row.dispose();
      using parts = decomposeResidual(model, ids);
      expect(parts.names).toContain("blocks.1.attn.head.3");
      const errors = await parts.verify();
      expect(Math.max(errors.stream, errors.logits)).toBeLessThan(1e-4);
      // Two heads share the keys and values of the first group, so that only their outputs differ.
      const [first, second] = await Promise.all(
        [0, 1].map(async (head) => {
          using circuit = headCircuit(model, { circuit: "ov", layer: 1, head });
          return [await circuit.left.data(), await circuit.right.data()] as const;
        }),
      );
      expect(first![0]).toEqual(second![0]);
      expect(first![1]).not.toEqual(second![1]);
    });

    test("is refused by savePretrained, which has no layout of files for it", async () => {
      using model = new Tower(device);
      await expectRejection(
        savePretrained(temporaryFolder(), model),
        "ERR_ARGUMENT",
        /a family that can be saved, got Tower/,
      );
    });
  });
});
