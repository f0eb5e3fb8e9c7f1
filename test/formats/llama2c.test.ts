import { truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { readLlama2c } from "../../lib/formats/llama2c.js";
import { expectRejection } from "../support/errors.js";
import { sharedFolder } from "../support/folder.js";
import { noShared, sharedModel } from "../support/shared.js";
import { testUnless } from "../support/skip.js";

const folder = sharedFolder();
const file = path.join(folder, "model.bin");

// Width 8, feed-forward 6, 2 layers, 4 heads of size 2, 2 of keys and values, 3 tokens, context 5.
const header = [8, 6, 2, 4, 2, 3, 5];
const counts = [3 * 8, 2 * 8, 2 * 64, 2 * 32, 2 * 32, 2 * 64, 2 * 8, 2 * 48, 2 * 48, 2 * 48, 8, 5, 5];
const floats = (list: number[], extra = 0) => list.reduce((sum, n) => sum + n, extra);

/** Returns numbered floats behind a header. */
function fileOf(head: number[], length: number): Buffer {
  return Buffer.concat([
    Buffer.from(Int32Array.from(head).buffer),
    Buffer.from(Float32Array.from({ length }, (_, i) => i).buffer),
  ]);
}
const run = (first: number, length: number) => Float32Array.from({ length }, (_, i) => first + i);

test("finds each tensor at its place in the format", async () => {
  writeFileSync(file, fileOf(header, floats(counts)));
  await using model = await readLlama2c(file);
  expect(model.config).toEqual({
    width: 8,
    feedForwardWidth: 6,
    layers: 2,
    heads: 4,
    kvHeads: 2,
    vocabularySize: 3,
    contextLength: 5,
    tied: true,
  });
  const start = (group: number) => floats(counts.slice(0, group));
  const expected: [string, number[], number][] = [
    ["model.embed_tokens.weight", [3, 8], 0],
    ["model.layers.1.input_layernorm.weight", [8], start(1) + 8],
    ["model.layers.0.self_attn.q_proj.weight", [8, 8], start(2)],
    ["model.layers.1.self_attn.k_proj.weight", [4, 8], start(3) + 32],
    ["model.layers.1.self_attn.v_proj.weight", [4, 8], start(4) + 32],
    ["model.layers.1.self_attn.o_proj.weight", [8, 8], start(5) + 64],
    ["model.layers.0.post_attention_layernorm.weight", [8], start(6)],
    ["model.layers.1.mlp.gate_proj.weight", [6, 8], start(7) + 48],
    ["model.layers.1.mlp.down_proj.weight", [8, 6], start(8) + 48],
    ["model.layers.1.mlp.up_proj.weight", [6, 8], start(9) + 48],
    ["model.norm.weight", [8], start(10)],
  ];
  expect(model.tensors.size).toBe(2 + 2 * 9);
  for (const [name, shape, first] of expected) {
    expect(model.tensors.get(name)).toMatchObject({ dtype: "F32", shape });
    expect(await model.readFloats(name)).toEqual(
      run(
        first,
        shape.reduce((a, b) => a * b, 1),
      ),
    );
  }
  await expectRejection(model.readFloats("lm_head.weight"), "ERR_ARGUMENT");
  truncateSync(file, 100);
  await expectRejection(model.readFloats("model.norm.weight"), "ERR_FORMAT", /truncated/);
});

test("a vocabulary below 0 has an output projection behind the rotary tables", async () => {
  writeFileSync(file, fileOf([8, 6, 2, 4, 2, -3, 5], floats(counts, 24)));
  await using model = await readLlama2c(file);
  expect(model.config).toMatchObject({ vocabularySize: 3, tied: false });
  expect(await model.readFloats("lm_head.weight")).toEqual(run(floats(counts), 24));
});

describe("damaged files", () => {
  test.each<[string, Uint8Array, RegExp]>([
    ["nothing", Buffer.alloc(0), /header of 28 bytes, got 0/],
    ["one cut short", fileOf(header, floats(counts) - 1), /truncated/],
    ["one too long", fileOf(header, floats(counts) + 1), /expected \d+ bytes for the sizes/],
    ["another format", Buffer.from("GGUF".repeat(20)), /expected /],
    ["no layers", fileOf([8, 6, 0, 4, 2, 3, 5], 1), /layers of at least 1, got 0/],
    ["a negative width", fileOf([-8, 6, 2, 4, 2, 3, 5], 1), /width of at least 1/],
    ["more layers than bytes", fileOf([8, 6, 2 ** 30, 4, 2, 3, 5], 1), /layers/],
    ["heads that do not fit", fileOf([8, 6, 2, 3, 2, 3, 5], 1), /heads/],
    [
      "groups that do not fit",
      fileOf([8, 6, 2, 4, 3, 3, 5], 1),
      /heads a multiple of kvHeads, got width 8, heads 4 and kvHeads 3/,
    ],
    ["heads of an odd size", fileOf([4, 6, 2, 4, 2, 3, 5], 1), /a multiple of 2·heads/],
  ])("%s", async (_, bytes, message) => {
    writeFileSync(file, bytes);
    await expectRejection(readLlama2c(file), "ERR_FORMAT", message);
  });

  test("a file that does not exist", async () => {
    await expectRejection(readLlama2c(path.join(folder, "none")), "ERR_IO", /none/);
  });
});

const stories = sharedModel("stories260K");
testUnless(!stories && noShared)("stories260K", async () => {
  await using model = await readLlama2c(path.join(stories!, "stories260K.bin"));
  expect(model.config).toEqual({
    width: 64,
    feedForwardWidth: 172,
    layers: 5,
    heads: 8,
    kvHeads: 4,
    vocabularySize: 512,
    contextLength: 512,
    tied: true,
  });
  // Trained scales of a norm are about 1, so reading another place of the file would be noticed.
  const norm = await model.readFloats("model.norm.weight");
  expect(norm.every((x) => x > 0.1 && x < 100)).toBe(true);
});
