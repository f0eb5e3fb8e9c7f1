/** ar-en-transliteration: a published encoder–decoder must give the published outputs. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { readCTranslate2 } from "../../lib/formats/ctranslate2.js";
import { score } from "../../lib/generate/score.js";
import { translate } from "../../lib/generate/translate.js";
import { loadCTranslate2 } from "../../lib/pretrained/families/load-ctranslate2.js";
import { tensor } from "../../lib/core/creation.js";
import { devices } from "../generate/models.js";
import { encoderDecoderReference } from "../models/encoder-decoder-reference.js";
import { logSoftmax } from "../support/functions.js";
import { noShared, sharedModel } from "../support/shared.js";
import { describeUnless } from "../support/skip.js";

const folder = sharedModel("ar-en-transliteration");
const published = { آتزمون: "atzmon", آزا: "azza" };

/** Returns the file's tensors under our names, directly from its bytes, for the reference. */
async function weightsOf(): Promise<Record<string, Float32Array>> {
  await using file = await readCTranslate2(path.join(folder!, "model.bin"));
  const weights: Record<string, Float32Array> = {};
  for (const name of file.tensors.keys()) {
    const block: [string, string][] = [
      ["/self_attention/layer_norm/", ".ln_1."],
      ["/self_attention/linear_0/", ".attn.c_attn."],
      ["/self_attention/linear_1/", ".attn.c_proj."],
      ["/attention/layer_norm/", ".ln_cross."],
      ["/attention/linear_0/", ".cross.q_attn."],
      ["/attention/linear_1/", ".cross.c_attn."],
      ["/attention/linear_2/", ".cross.c_proj."],
      ["/ffn/layer_norm/", ".ln_2."],
      ["/ffn/linear_0/", ".mlp.c_fc."],
      ["/ffn/linear_1/", ".mlp.c_proj."],
      ["/layer_norm/", ".ln_f."],
      ["encoder/embeddings/", "source."],
      ["decoder/embeddings/", "target."],
      ["decoder/projection/weight", "head.weight"],
      ["decoder/projection/bias", "logits_bias"],
      ["/layer_", ".h."],
      ["gamma", "weight"],
      ["beta", "bias"],
    ];
    const ours = block.reduce((text, [theirs, own]) => text.replace(theirs, own), name);
    weights[ours] = await file.readFloats(name);
  }
  return weights;
}

describeUnless(!folder && noShared).each(devices)("ar-en-transliteration on %s", (device) => {
  test.each([1, 2])("writes the published names, with %i beams", { timeout: 120_000 }, async (beams) => {
    const { model, source, target } = await loadCTranslate2(folder!, { device });
    using _ = model;
    const found = await translate(
      model,
      Object.keys(published).map((text) => source.encode(text)),
      { beams },
    );
    expect(found.map(([best]) => target.decode(best!.tokens))).toEqual(Object.values(published));
  });

  test("log-probabilities follow the equations", { timeout: 120_000 }, async () => {
    const { model, source, target } = await loadCTranslate2(folder!, { device });
    using _ = model;
    const weights = await weightsOf();
    for (const [from, to] of Object.entries(published)) {
      const ids = [...source.encode(from)];
      const tokens = [1, ...target.encode(to), 2];
      const expected = encoderDecoderReference(model.config, weights, ids, tokens.slice(0, -1)).map(
        (logits, t) => logSoftmax(logits)[tokens[t + 1]!]!,
      );
      using decoder = model.decoderFor(tensor(Int32Array.from(ids), [1, ids.length], { device }));
      const { logProbabilities } = await score(decoder, tokens);
      for (const [t, value] of expected.entries()) expect(Math.abs(logProbabilities[t]! - value)).toBeLessThan(1e-3);
    }
  });

  test("a batch of every length gives the same results as each alone", { timeout: 120_000 }, async () => {
    const { model, source } = await loadCTranslate2(folder!, { device });
    using _ = model;
    const letters = readFileSync(path.join(folder!, "source_vocabulary.txt"), "utf8").split("\n").slice(3, 30);
    const words = [1, 2, 3, 5, 8].map((length, i) => source.encode(letters.slice(3 * i, 3 * i + length).join("")));
    const settings = { beams: 3, nBest: 3, maxTokens: 12 };
    const together = await translate(model, words, { ...settings, batchSize: 4 });
    for (const [i, word] of words.entries()) {
      const [alone] = await translate(model, [word], settings);
      expect(together[i]!.map(({ tokens }) => tokens)).toEqual(alone!.map(({ tokens }) => tokens));
      for (const [n, { total }] of together[i]!.entries()) expect(total).toBeCloseTo(alone![n]!.total, 4);
    }
  });
});
