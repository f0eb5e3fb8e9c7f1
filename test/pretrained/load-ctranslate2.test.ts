import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { isCTranslate2, loadCTranslate2 } from "../../lib/pretrained/families/load-ctranslate2.js";
import { modelFile, variable } from "../support/ctranslate2.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { writeTinyTranslator } from "../support/tiny-translator.js";

test("the sizes are those of the file's tensors", async () => {
  const folder = temporaryFolder();
  expect(await isCTranslate2(folder)).toBe(false);
  writeTinyTranslator(folder);
  expect(await isCTranslate2(folder)).toBe(true);
  const { model, source, target } = await loadCTranslate2(folder, { contextLength: 40 });
  using _ = model;
  expect(model.config).toMatchObject({
    ...{
      sourceVocabularySize: 10,
      targetVocabularySize: 7,
      width: 16,
      feedForwardWidth: 12,
      heads: 8,
      layers: 2,
      decoderLayers: 1,
    },
    ...{ contextLength: 40, startToken: 1, endToken: 2, norm: "pre", tied: false, logitsBias: true },
  });
  expect(model.training).toBe(false);
  expect([...source.encode("fa?")]).toEqual([8, 3, 9]);
  expect(target.decode([1, 5, 3, 0, 6, 4, 2])).toBe("zxy");
});

test.each(["f16", "int8", "int16"] as const)("weights in %s equal those in f32, rounded", async (weights) => {
  const folders = [temporaryFolder(), temporaryFolder()];
  writeTinyTranslator(folders[0]!);
  writeTinyTranslator(folders[1]!, { weights });
  const [exact, rounded] = await Promise.all(folders.map((folder) => loadCTranslate2(folder, { device: "cpu" })));
  using a = exact!.model;
  using b = rounded!.model;
  const others = new Map(b.namedParameters());
  for (const [name, tensor] of a.namedParameters()) {
    const [values, got] = [await tensor.data(), await others.get(name)!.data()];
    const most = Math.max(...values.map(Math.abs));
    for (const [i, value] of values.entries()) expect(Math.abs(value - got[i]!), name).toBeLessThan(most / 200);
    if (name.endsWith("c_fc.weight")) expect(got).not.toEqual(values);
  }
});

describe("a folder that does not fit", () => {
  test.each<[string, (folder: string) => void, string, RegExp]>([
    [
      "another architecture",
      (folder) => writeTinyTranslator(folder, { spec: "GPT" }),
      "ERR_FORMAT",
      /or TransformerBig, got GPT/,
    ],
    [
      "another vocabulary",
      (folder) => writeFileSync(path.join(folder, "source_vocabulary.txt"), "<s>\na\nb\n"),
      "ERR_FORMAT",
      /expected a source vocabulary of 10 tokens, got 4/,
    ],
    [
      "a vocabulary of words",
      (folder) => writeFileSync(path.join(folder, "target_vocabulary.txt"), "<s>\n</s>\n▁the\n"),
      "ERR_FORMAT",
      /target_vocabulary\.txt: .*got "▁the"/,
    ],
    [
      "a vocabulary without an end",
      (folder) => writeFileSync(path.join(folder, "target_vocabulary.txt"), "<s>\na\n"),
      "ERR_FORMAT",
      /target_vocabulary\.txt: .*expected the token <\/s>, got none/,
    ],
    [
      "a token twice",
      (folder) => writeFileSync(path.join(folder, "target_vocabulary.txt"), "<s>\na\na\n"),
      "ERR_FORMAT",
      /got "a" twice/,
    ],
    [
      "no embeddings",
      (folder) => writeFileSync(path.join(folder, "model.bin"), modelFile([])),
      "ERR_FORMAT",
      /model\.bin: expected a matrix encoder\/embeddings\/weight, got none/,
    ],
    [
      "a tensor too many",
      (folder) => {
        const file = path.join(folder, "model.bin");
        const bytes = readFileSync(file);
        // The count follows the version, the architecture's name and its revision.
        const at = 4 + 2 + "TransformerBase".length + 1 + 4;
        bytes.writeUInt32LE(bytes.readUInt32LE(at) + 1, at);
        writeFileSync(file, Buffer.concat([bytes, variable({ name: "more", shape: [1], values: [1] })]));
      },
      "ERR_FORMAT",
      /model\.bin: expected only the model's parameters, got more/,
    ],
  ])("%s", async (_, damage, code, message) => {
    const folder = temporaryFolder();
    writeTinyTranslator(folder);
    damage(folder);
    await expectRejection(loadCTranslate2(folder), code as never, message);
  });

  test("a folder that does not exist", async () => {
    await expectRejection(loadCTranslate2(temporaryFolder()), "ERR_IO", /target_vocabulary\.txt/);
  });
});
