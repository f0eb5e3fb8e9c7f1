/** Small models of every family that heed loads, beside what Hugging Face's transformers 5 computes with them. */
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import { families } from "../../lib/pretrained/families/index.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { expectNear } from "../support/close.js";
import { temporaryFolder } from "../support/folder.js";
import { type Oracle, readOracle } from "../support/oracle.js";
import { noReference, sharedReference } from "../support/shared.js";
import { describeUnless } from "../support/skip.js";

const root = sharedReference("families");
const kinds = ["causal", "encoder", "encoder-decoder"] as const;
interface Config {
  model_type: string;
  max_position_embeddings?: number;
}
const configOf = (folder: string): Config =>
  JSON.parse(readFileSync(path.join(folder, "config.json"), "utf8")) as Config;
/** Number of tokens in each row of the references. */
const length = 24;
const loads = (folder: string, kind: (typeof kinds)[number]): boolean => {
  // heed reads no more tokens than a model's context has.
  const { model_type: type, max_position_embeddings: most = length } = configOf(folder);
  return most >= length && families[kind].some(({ types }) => types.includes(type));
};
const folders = root ? readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isDirectory()) : [];
const cases = kinds.flatMap((kind) =>
  folders
    .map(({ name }) => path.join(root!, name))
    .filter((folder) => loads(folder, kind))
    .map((folder) => [path.basename(folder), kind, folder] as const),
);

async function valuesOf(body: () => FloatTensor): Promise<Float32Array> {
  using out = noGrad(() => scope(body));
  return await out.data();
}

/** Returns the numbers of real tokens in the rows of a mask. */
function lengthsOf(oracle: Oracle): IntTensor {
  const [rows, width] = oracle.shape("mask") as [number, number];
  const mask = oracle.integers("mask");
  const sums = Int32Array.from({ length: rows }, (_, row) =>
    mask.slice(row * width, (row + 1) * width).reduce((sum, one) => sum + one, 0),
  );
  return tensor(sums, [rows], { device: "cpu" });
}

async function expectOracle(folder: string, kind: (typeof kinds)[number], oracle: Oracle): Promise<void> {
  if (kind === "causal") {
    const { model } = await loadPretrained(folder, { kind, device: "cpu" });
    expectNear("logits", await valuesOf(() => model.forward(oracle.ids("ids"))), oracle.floats("logits"), 1e-5);
    model.dispose();
    return;
  }
  const sourceLengths = lengthsOf(oracle);
  if (kind === "encoder-decoder") {
    const { model } = await loadPretrained(folder, { kind, device: "cpu" });
    const logits = await valuesOf(() => model.forward(oracle.ids("ids"), oracle.ids("decoder_ids"), { sourceLengths }));
    // A T5 does not scale its scores, so that the softmax magnifies roundings.
    expectNear("logits", logits, oracle.floats("logits"), configOf(folder).model_type.endsWith("t5") ? 5e-5 : 1e-5);
    model.dispose();
    return;
  }
  const { model } = await loadPretrained(folder, { kind, device: "cpu" });
  const states = await valuesOf(() => model.forward(oracle.ids("ids"), { keyLengths: sourceLengths }));
  // States of padding mean nothing.
  const [, , C] = oracle.shape("last_hidden_state") as [number, number, number];
  const mask = oracle.integers("mask");
  const real = (values: Float32Array): Float32Array => values.filter((_, i) => mask[Math.floor(i / C)] === 1);
  expectNear("states", real(states), real(oracle.floats("last_hidden_state")), 1e-5);
  model.dispose();
}

describeUnless(!root && noReference)("the published form of a family", () => {
  test.each(cases)("%s computes what transformers computes, also after it was saved again", async (_, kind, folder) => {
    const oracle = await readOracle(path.join(folder, "oracle.safetensors"));
    await expectOracle(folder, kind, oracle);
    const copy = path.join(temporaryFolder(), "copy");
    const { model } = await loadPretrained(folder, { kind, device: "cpu" });
    await savePretrained(copy, model);
    model.dispose();
    await expectOracle(copy, kind, oracle);
  });
  test("there are some", () => expect(cases.length).toBeGreaterThan(15));
});
