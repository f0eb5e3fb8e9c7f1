import { AdamW, GPT, type GptConfig, scope, tensor } from "heed";
import { type Case, expectClose, type Setting } from "../case.js";

/** Numbers that do not repeat soon and need no library. */
function tokens(count: number, vocabulary: number): Int32Array {
  let state = 1;
  return Int32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * vocabulary);
  });
}

/** Forward, backward and AdamW over one batch, the loss read at the end. */
export function trainingStep(setting: Setting, label: string, batch: number, config: GptConfig): Case {
  const length = config.contextLength;
  return {
    ...setting,
    name: "training step",
    shape: `${label}: B${batch} T${length}`,
    work: { tokens: batch * length },
    peer: {
      name: "training_step",
      batch,
      length,
      vocabulary: config.vocabularySize,
      layers: config.layers,
      heads: config.heads,
      width: config.width,
    },
    prepare() {
      const { device, dtype } = setting;
      const model = new GPT(config, { seed: 1, device });
      model.dtype = dtype;
      const optimizer = new AdamW(model.namedParameters(), { lr: 3e-4, beta2: 0.95, weightDecay: 0.1 });
      const ids = tensor(tokens(batch * length, config.vocabularySize), [batch, length], { device });
      const targets = tensor(tokens(batch * length + 7, config.vocabularySize).slice(7), [batch, length], { device });
      const step = async (): Promise<number> => {
        using loss = scope(() => {
          const loss = model.loss(ids, targets);
          loss.backward();
          optimizer.step();
          optimizer.zeroGrad();
          return loss;
        });
        return await loss.item();
      };
      return {
        run: async () => {
          await step();
        },
        verify: async () => {
          // An untrained model is about as good as chance, and learns.
          const first = await step();
          expectClose("first loss", first, Math.log(config.vocabularySize), 0.05);
          const second = await step();
          if (!(second < first)) throw new Error(`training step: expected a loss below ${first}, got ${second}`);
        },
        dispose: () => {
          optimizer.dispose();
          model.dispose();
          ids.dispose();
          targets.dispose();
        },
      };
    },
  };
}
