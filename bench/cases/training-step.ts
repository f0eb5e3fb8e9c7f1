import {
  AdamW,
  addAdapter,
  GPT,
  type GptConfig,
  LstmLanguageModel,
  type LstmLanguageModelConfig,
  scope,
  tensor,
} from "heed";
import { type Case, expectClose, type Goals, type Setting } from "../case.js";

/** Returns pseudorandom tokens (a linear congruential generator), which need no library. */
function tokens(count: number, vocabulary: number): Int32Array {
  let state = 1;
  return Int32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * vocabulary);
  });
}

/** Returns the case of one training step: forward, backward and AdamW over one batch; the loss is read at the end. */
export function trainingStep(
  setting: Setting,
  label: string,
  batch: number,
  config: GptConfig,
  goals: Goals = {},
): Case {
  const { vocabularySize: vocabulary, contextLength: length, layers, heads, width } = config;
  const sizes = { vocabulary, length, layers, heads, width };
  const step = stepOf(setting, "training step", label, batch, sizes, (device) => {
    const model = new GPT(config, { seed: 1, device });
    model.dtype = setting.dtype;
    return model;
  });
  return { ...step, goals };
}

/**
 * Returns the case of a training step of a LoRA on every linear layer of the blocks. The model itself is frozen, in the
 * case's dtype or, with `bits`, its blocks in as many (QLoRA).
 */
export function adapterStep(
  setting: Setting,
  label: string,
  batch: number,
  config: GptConfig,
  { bits, goals = {} }: { bits?: 4; goals?: Goals } = {},
): Case {
  const { vocabularySize: vocabulary, contextLength: length, layers, heads, width } = config;
  const rank = 8;
  const sizes = { vocabulary, length, layers, heads, width, rank };
  const name = bits ? "QLoRA training step" : "LoRA training step";
  const create = (device: string): GPT => {
    const model = new GPT(config, { seed: 1, device });
    model.to(setting.dtype);
    if (bits) for (const block of model.h) block.quantize({ bits });
    addAdapter(model, { rank });
    return model;
  };
  return { ...stepOf(setting, name, label, batch, sizes, create, 1e-2), goals };
}

/** Returns the case of a training step of an LSTM. */
export function lstmTrainingStep(
  setting: Setting,
  label: string,
  batch: number,
  config: LstmLanguageModelConfig,
): Case {
  const { vocabularySize: vocabulary, contextLength: length, layers, width } = config;
  return stepOf(setting, "LSTM training step", label, batch, { vocabulary, length, layers, width }, (device) => {
    const model = new LstmLanguageModel({ ...config, tied: true }, { seed: 1, device });
    model.dtype = setting.dtype;
    return model;
  });
}

function stepOf(
  setting: Setting,
  name: string,
  label: string,
  batch: number,
  sizes: { vocabulary: number; length: number } & Record<string, number>,
  create: (device: string) => GPT | LstmLanguageModel,
  lr = 3e-4,
): Case {
  const { vocabulary, length } = sizes;
  return {
    ...setting,
    name,
    shape: `${label}: B${batch} T${length}`,
    work: { tokens: batch * length },
    memory: "whole",
    peer: { name: name.toLowerCase().replaceAll(" ", "_"), batch, ...sizes },
    prepare() {
      const { device } = setting;
      const model = create(device);
      const optimizer = new AdamW(model.namedParameters(), { lr, beta2: 0.95, weightDecay: 0.1 });
      const ids = tensor(tokens(batch * length, vocabulary), [batch, length], { device });
      const targets = tensor(tokens(batch * length + 7, vocabulary).slice(7), [batch, length], { device });
      const step = async (): Promise<number> => {
        using loss = scope(() => {
          const loss = model.loss(ids, targets);
          optimizer.backwardStep(loss);
          return loss;
        });
        return await loss.item();
      };
      return {
        run: async () => {
          await step();
        },
        verify: async () => {
          // An untrained model is about as good as chance, and one step makes it better.
          const first = await step();
          expectClose("first loss", first, Math.log(vocabulary), 0.05);
          const second = await step();
          if (!(second < first)) throw new Error(`${name}: expected a loss below ${first}, got ${second}`);
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
