/** Models of each family drop where transformers' models of the same config.json do. */
import { describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import { Bert } from "../../lib/models/bert.js";
import type { CausalDecoder } from "../../lib/models/causal-decoder.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { T5 } from "../../lib/models/t5.js";
import { Dropout } from "../../lib/nn/dropout.js";
import type { Module } from "../../lib/nn/module.js";
import { fromHuggingFaceBertConfig } from "../../lib/pretrained/families/bert-config.js";
import { fromHuggingFaceGptConfig, toHuggingFaceGptConfig } from "../../lib/pretrained/families/gpt-config.js";
import { fromHuggingFaceLlamaConfig, toHuggingFaceLlamaConfig } from "../../lib/pretrained/families/llama-config.js";
import { fromHuggingFaceT5Config } from "../../lib/pretrained/families/t5-config.js";
import { loadParts } from "../../lib/pretrained/load-model.js";
import { loadCheckpoint } from "../../lib/train/checkpoint.js";
import { Trainer } from "../../lib/train/trainer.js";
import { expectError } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { onEachDevice } from "../support/targets.js";
import { collect, losses, tokens, values } from "../train/support.js";

/** Returns the probabilities of a model's dropouts, by their places. */
function places(model: Module): Record<string, number> {
  const found = [...model.modules()].flatMap(([name, one]) => (one instanceof Dropout ? [[name, one.p] as const] : []));
  return Object.fromEntries(found);
}

const gpt2 = {
  ...{ model_type: "gpt2", vocab_size: 11, n_positions: 8, n_layer: 1, n_head: 2, n_embd: 8 },
  ...{ embd_pdrop: 0.1, attn_pdrop: 0.2, resid_pdrop: 0.3 },
};
const llama = {
  ...{ model_type: "llama", vocab_size: 11, max_position_embeddings: 8, num_hidden_layers: 1, hidden_size: 8 },
  ...{ num_attention_heads: 2, intermediate_size: 12, attention_dropout: 0.4 },
};
const bert = {
  ...{ model_type: "bert", vocab_size: 11, max_position_embeddings: 8, num_hidden_layers: 1, hidden_size: 8 },
  ...{ num_attention_heads: 2, intermediate_size: 12, hidden_dropout_prob: 0.1, attention_probs_dropout_prob: 0.2 },
};
const distilbert = {
  ...{ model_type: "distilbert", vocab_size: 11, max_position_embeddings: 8, n_layers: 1, dim: 8, n_heads: 2 },
  ...{ hidden_dim: 12, dropout: 0.1, attention_dropout: 0.2 },
};
const t5 = {
  ...{ model_type: "t5", vocab_size: 11, d_model: 8, d_kv: 4, d_ff: 12, num_layers: 1, num_heads: 2 },
  ...{ dropout_rate: 0.3, feed_forward_proj: "relu" },
};

describe("config.json", () => {
  test("of a GPT-2 has three probabilities, which are read and written apart", () => {
    using model = new GPT(fromHuggingFaceGptConfig(gpt2));
    expect(places(model)).toEqual({ drop: 0.1, "h.0.attn.dropout": 0.2, "h.0.residualDropout": 0.3 });
    expect(toHuggingFaceGptConfig(model.config)).toMatchObject({ embd_pdrop: 0.1, attn_pdrop: 0.2, resid_pdrop: 0.3 });
    const { embd_pdrop: _, attn_pdrop: __, resid_pdrop: ___, ...without } = gpt2;
    using usual = new GPT(fromHuggingFaceGptConfig(without));
    expect(places(usual)).toEqual({ drop: 0, "h.0.attn.dropout": 0, "h.0.residualDropout": 0 });
    using off = new GPT(fromHuggingFaceGptConfig({ ...gpt2, embd_pdrop: 0, attn_pdrop: 0.2, resid_pdrop: 0 }));
    expect(places(off)).toEqual({ drop: 0, "h.0.attn.dropout": 0.2, "h.0.residualDropout": 0 });
  });

  test("of a Llama drops attention weights alone; what heed drops besides is kept in an entry of its own", () => {
    using model = new Llama(fromHuggingFaceLlamaConfig(llama));
    const names = ["model.layers.0.self_attn.dropout", "model.layers.0.residualDropout", "drop"] as const;
    const of = (attention: number, rest: number) => ({ [names[0]]: attention, [names[1]]: rest, [names[2]]: rest });
    expect(places(model)).toEqual(of(0.4, 0));
    const written = toHuggingFaceLlamaConfig(model.config);
    expect(written).toMatchObject({ attention_dropout: 0.4 });
    expect(written).not.toHaveProperty("heed_dropout");
    for (const dropouts of [
      { dropout: 0.1 },
      { dropout: 0.1, attentionDropout: 0 },
      { attentionDropout: 0.2 },
      { dropout: 0.1, attentionDropout: 0.2 },
    ]) {
      const { dropout = 0, attentionDropout = dropout } = dropouts;
      using made = new Llama({ ...fromHuggingFaceLlamaConfig({ ...llama, attention_dropout: 0 }), ...dropouts });
      expect(places(made)).toEqual(of(attentionDropout, dropout));
      using again = new Llama(fromHuggingFaceLlamaConfig(toHuggingFaceLlamaConfig(made.config)));
      expect(places(again)).toEqual(places(made));
    }
  });

  test("of a BERT and a DistilBERT, which drops nothing of what attention adds", () => {
    using model = new Bert(fromHuggingFaceBertConfig(bert));
    expect(places(model)).toEqual({
      "embeddings.dropout": 0.1,
      "encoder.layer.0.attention.self.dropout": 0.2,
      "encoder.layer.0.attention.output.dropout": 0.1,
      "encoder.layer.0.output.dropout": 0.1,
    });
    using distilled = new Bert(fromHuggingFaceBertConfig(distilbert));
    expect(places(distilled)).toEqual({ ...places(model), "encoder.layer.0.attention.output.dropout": 0 });
  });

  test("of a T5 has one probability, for every place", () => {
    using model = new T5(fromHuggingFaceT5Config(t5));
    const found = places(model);
    expect(new Set(Object.values(found))).toEqual(new Set([0.3]));
    const count = (name: RegExp): number => Object.keys(found).filter((place) => name.test(place)).length;
    // A stack drops its embeddings and its last norm's output; a block drops attention weights, the activations of the
    // feed-forward, and what each part adds.
    expect([count(/^(encoder|decoder)\.dropout$/), count(/^encoder\.block/), count(/^decoder\.block/)]).toEqual([
      2, 4, 6,
    ]);
  });

  test("wrong probabilities are refused by name", () => {
    const size = { vocabularySize: 11, contextLength: 8, layers: 1, heads: 2, width: 8 };
    for (const name of ["embeddingDropout", "attentionDropout", "residualDropout"])
      for (const value of [-0.1, 1.1, "0.1"])
        expectError(() => new GPT({ ...size, [name]: value }), "ERR_RANGE", new RegExp(name));
    expectError(
      () => new Llama({ ...size, feedForwardWidth: 12, attentionDropout: 2 }),
      "ERR_RANGE",
      /attentionDropout/,
    );
    expectError(() => fromHuggingFaceGptConfig({ ...gpt2, embd_pdrop: "0.1" }), "ERR_FORMAT", /embd_pdrop/);
  });
});

onEachDevice((device) => {
  const size = { vocabularySize: 11, contextLength: 64, layers: 2, heads: 2, width: 64 };
  const ids = (count = 32) =>
    tensor(
      Int32Array.from({ length: count }, (_, i) => (i * i) % 11),
      [1, count],
      { dtype: "i32" },
    );
  /** Returns a model with all its weights of a size that matters. */
  const loud = <M extends Module>(model: M): M => {
    let seed = 1;
    for (const parameter of model.parameters())
      if (parameter.shape.length >= 2)
        parameter.set(Float32Array.from({ length: parameter.size }, () => Math.sin(++seed * seed) / 4));
    return model;
  };
  const logitsOf = async (model: CausalDecoder): Promise<Float32Array> => {
    using out = noGrad(() => model.forward(ids()));
    return await out.data();
  };
  const makers = {
    gpt: (dropouts: object) => loud(new GPT({ ...size, ...dropouts }, { seed: 1, device })),
    llama: (dropouts: object) => loud(new Llama({ ...size, feedForwardWidth: 32, ...dropouts }, { seed: 1, device })),
  };
  /** Names of the projections that end attention and the feed-forward. */
  const ends = { attention: /(attn\.c_proj|o_proj)\.weight$/, both: /(c_proj|o_proj|down_proj)\.weight$/ };

  describe.each(["gpt", "llama"] as const)("%s", (family) => {
    const make = makers[family];

    test("without attention weights, attention adds nothing", async () => {
      using model = make({ attentionDropout: 1 });
      const dropped = await logitsOf(model);
      using without = make({});
      for (const [name, parameter] of without.namedParameters())
        if (ends.attention.test(name)) parameter.set(new Float32Array(parameter.size));
      expect(dropped).toEqual(await logitsOf(without));
      expect(await logitsOf(model.eval())).not.toEqual(dropped);
    });

    test("without what the parts add, the embeddings are left", async () => {
      using model = make(family === "gpt" ? { residualDropout: 1 } : { dropout: 1, attentionDropout: 0 });
      model.drop.training = false;
      const dropped = await logitsOf(model);
      using without = make({});
      for (const [name, parameter] of without.namedParameters())
        if (ends.both.test(name)) parameter.set(new Float32Array(parameter.size));
      expect(dropped).toEqual(await logitsOf(without));
    });

    test("of the embeddings a share is dropped, and the rest scaled", async () => {
      using model = make(family === "gpt" ? { embeddingDropout: 0.25 } : { dropout: 0.25 });
      const embedded = async (): Promise<Float32Array> => {
        using out = noGrad(() => model.blockInput(ids(64)));
        return await out.data();
      };
      const [training, all] = [await embedded(), await (model.eval(), embedded())];
      const zeros = training.filter((x) => x === 0).length;
      // 4096 elements; six standard deviations.
      expect(Math.abs(zeros / 4096 - 0.25)).toBeLessThan(6 * Math.sqrt((0.25 * 0.75) / 4096));
      for (const [i, x] of training.entries()) if (x !== 0) expect(x).toBeCloseTo(all[i]! / 0.75, 5);
    });

    test("training goes on from a checkpoint with the same masks", async () => {
      const folder = temporaryFolder();
      const small = { contextLength: 8, width: 8, dropout: 0.1, attentionDropout: 0.3 };
      const settings = { data: tokens(), batchSize: 2, schedule: () => 0.01 };
      using whole = new Trainer({ ...settings, model: make(small), steps: 4 });
      const expected = losses(await collect(whole.run()));
      using first = new Trainer({ ...settings, model: make(small), steps: 2, checkpoint: { folder } });
      await first.train();
      const resume = await loadCheckpoint(folder, { device });
      using rest = new Trainer({ ...settings, model: resume.model, resume, steps: 4 });
      expect(losses(await collect(rest.run()))).toEqual(expected.slice(2));
      expect(await values(rest.model)).toEqual(await values(whole.model));
      const { model } = await loadParts("load", folder, { device });
      expect(places(model)).toEqual(places(whole.model));
    });
  });
});
