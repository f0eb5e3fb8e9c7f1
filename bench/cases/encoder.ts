import { Bert, type BertConfig, type FloatTensor, narrow, noGrad, scope, sum, tensor } from "heed";
import { type Case, expectClose, type Goals, type Setting, tolerances } from "../case.js";
import { modelFile, writeWeights } from "../models.js";

/** Returns the case of a BERT that computes the states of every token of a batch. */
export function encoder(
  setting: Setting,
  label: string,
  config: BertConfig,
  { batch, length }: { batch: number; length: number },
  goals: Goals = {},
): Case {
  const { layers, heads, width, vocabularySize: vocabulary } = config;
  const weights = modelFile(`${label}.safetensors`);
  return {
    ...setting,
    name: "encoder",
    shape: `${label}: B${batch} T${length}`,
    // For each token and layer these are the matrices and the attention to all tokens.
    work: { tokens: batch * length, flops: batch * length * layers * (24 * width ** 2 + 4 * width * length) },
    bound: "compute",
    goals,
    peer: { name: "encoder", layers, heads, width, vocabulary, batch, length, weights },
    files: () => writeWeights(weights, () => new Bert(config, { seed: 1, device: "cpu" })),
    prepare() {
      const { device, dtype } = setting;
      const model = new Bert(config, { seed: 1, device, dtype }).eval();
      const ids = tensor(
        Int32Array.from({ length: batch * length }, (_, i) => (i * 7919) % vocabulary),
        [batch, length],
        { device },
      );
      const states = (): FloatTensor => noGrad(() => scope(() => model.forward(ids)));
      const last = async (): Promise<Float32Array> => {
        using values = scope(() => narrow(narrow(states(), 0, batch - 1, 1), 1, length - 1, 1).to("f32"));
        return await values.data();
      };
      return {
        run: () => scope(() => void states()),
        verify: async () => {
          // The last layer norm has weight one and bias zero, so the mean is zero and the variance is one.
          using mean = noGrad(() => scope(() => sum(states().to("f32"))));
          expectClose("sum of the states", await mean.item(), 0, tolerances[dtype], batch * length * width);
          const row = await last();
          const variance = row.reduce((total, value) => total + value ** 2, 0) / width;
          expectClose("variance of a state", variance, 1, 4 * tolerances[dtype]);
        },
        verifyPeer: async (result) => {
          const own = await last();
          result.forEach((value, i) => expectClose(`state ${i}`, value, own[i]!, 8 * tolerances[dtype]));
        },
        dispose: () => {
          model.dispose();
          ids.dispose();
        },
      };
    },
  };
}
