import { truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { readCTranslate2 } from "../../lib/formats/ctranslate2.js";
import { modelFile, quantizedVariables, string, typedVariable, u32, variable } from "../support/ctranslate2.js";
import { expectRejection } from "../support/errors.js";
import { sharedFolder } from "../support/folder.js";
import { noShared, sharedModel } from "../support/shared.js";
import { testUnless } from "../support/skip.js";

const file = path.join(sharedFolder(), "model.bin");
const run = (first: number, length: number): number[] => Array.from({ length }, (_, i) => first + i);

const long = "x".repeat(3000);
const variables = [
  variable({ name: "a/weight", shape: [2, 3], values: run(0, 6) }),
  variable({ name: "scalar", shape: [], values: [5] }),
  variable({ name: long, shape: [400], values: run(50, 400) }),
  variable({ name: "nothing", shape: [0, 4], values: [] }),
  variable({ name: "quantised", shape: [3], values: run(0, 3) }, { itemBytes: 1 }),
  variable({ name: "b/weight", shape: [1, 2, 2], values: run(9, 4) }),
];

test("finds each variable at its place in the format", async () => {
  writeFileSync(file, modelFile(variables, { spec: "Böse" }));
  await using model = await readCTranslate2(file);
  expect(model.spec).toEqual({ name: "Böse", revision: 2 });
  expect([...model.tensors].map(([name, { dtype, shape }]) => [name, dtype, shape])).toEqual([
    ["a/weight", "F32", [2, 3]],
    ["scalar", "F32", []],
    [long, "F32", [400]],
    ["nothing", "F32", [0, 4]],
    ["quantised", "I8", [3]],
    ["b/weight", "F32", [1, 2, 2]],
  ]);
  expect([...(await model.readFloats("a/weight"))]).toEqual(run(0, 6));
  expect([...(await model.readFloats("scalar"))]).toEqual([5]);
  expect([...(await model.readFloats(long))]).toEqual(run(50, 400));
  expect([...(await model.readFloats("nothing"))]).toEqual([]);
  expect([...(await model.readFloats("b/weight"))]).toEqual(run(9, 4));
  await expectRejection(
    model.readFloats("quantised"),
    "ERR_FORMAT",
    /expected quantised to have one positive scale, or one for each row, got none/,
  );
  await expectRejection(model.readFloats("c"), "ERR_ARGUMENT");
  truncateSync(file, 100);
  await expectRejection(model.readFloats("b/weight"), "ERR_FORMAT", /truncated/);
});

test("an alias is another name of a variable", async () => {
  writeFileSync(file, Buffer.concat([modelFile(variables), u32(1), string("tied"), string("a/weight")]));
  await using model = await readCTranslate2(file);
  expect([...(await model.readFloats("tied"))]).toEqual(run(0, 6));
});

describe("other types of weights", () => {
  const values = Array.from({ length: 12 }, (_, i) => Math.sin(i) * (i < 4 ? 10 : 0.1));
  const matrix = { name: "a/weight", shape: [3, 4], values };

  test.each([true, false])("in 8 and 16 bits, with their scales; the newer format: %s", async (typed) => {
    for (const [dtype, steps] of [
      ["int8", 127],
      ["int16", 1024],
    ] as const) {
      writeFileSync(
        file,
        Buffer.concat([
          modelFile(quantizedVariables(dtype, matrix, typed), { version: typed ? 6 : 2 }),
          ...[u32(2), string("tied/weight"), string("a/weight"), string("tied/weight_scale"), string("a/weight_scale")],
        ]),
      );
      await using model = await readCTranslate2(file);
      expect([...model.tensors.keys()]).toEqual(["a/weight", "tied/weight"]);
      const most = dtype === "int8" ? [9.1, 0.1, 0.1] : [9.1, 9.1, 9.1];
      const floats = await model.readFloats("a/weight");
      for (const [i, value] of floats.entries())
        expect(Math.abs(value - values[i]!)).toBeLessThanOrEqual((0.51 * most[Math.floor(i / 4)]!) / steps);
      expect(await model.readFloats("tied/weight")).toEqual(floats);
    }
  });

  test("in f16 and bf16", async () => {
    for (const [dtype, relative] of [
      ["f16", 2 ** -11],
      ["bf16", 2 ** -8],
    ] as const) {
      writeFileSync(file, modelFile([typedVariable(dtype, matrix)], { version: 4 }));
      await using model = await readCTranslate2(file);
      for (const [i, value] of (await model.readFloats("a/weight")).entries())
        expect(Math.abs(value - values[i]!)).toBeLessThanOrEqual(relative * Math.abs(values[i]!));
    }
  });

  test("16-bit weights of old files have a scale of 1000, other variables have none, and scales must be positive", async () => {
    const codes = { name: "a/weight", shape: [2, 2], values: [1000, -500, 0, 250] };
    const scales = (values: number[]) =>
      typedVariable("f32", { name: "a/weight_scale", shape: [values.length], values });
    writeFileSync(file, modelFile([typedVariable("int16", codes, false)]));
    {
      await using model = await readCTranslate2(file);
      expect([...(await model.readFloats("a/weight"))]).toEqual([1, -0.5, 0, 0.25]);
    }
    for (const [variables, message] of [
      [[typedVariable("int8", codes), scales([1, 0])], /expected a\/weight to have one positive scale, .+, got 0$/],
      [[typedVariable("int8", codes), scales([1, NaN])], /got NaN$/],
      [[typedVariable("int8", codes), scales([1, 2, 3])], /got F32 of shape \[3\]$/],
      [[typedVariable("int32", codes)], /expected a\/weight of type F32, .+, got I32/],
    ] as const) {
      writeFileSync(file, modelFile(variables, { version: 4 }));
      await using model = await readCTranslate2(file);
      await expectRejection(model.readFloats("a/weight"), "ERR_FORMAT", message);
    }
    const [bytes] = [typedVariable("f32", codes)];
    bytes[string("a/weight").length + 1 + 8] = 9;
    writeFileSync(file, modelFile([bytes], { version: 4 }));
    await expectRejection(readCTranslate2(file), "ERR_FORMAT", /expected the type of a\/weight to be 0 to 5, got 9/);
  });
});

describe("damaged files", () => {
  const whole = modelFile(variables);
  const good = { name: "a", shape: [2], values: [1, 2] };
  const aliases = (...parts: Buffer[]): Buffer => Buffer.concat([whole, ...parts]);
  test.each<[string, Buffer, RegExp]>([
    ["nothing", Buffer.alloc(0), /expected 4 bytes of a version at 0, got 0: truncated/],
    ["another version", modelFile(variables, { version: 7 }), /expected binary version 2 to 6 of CTranslate2, got 7/],
    ["another format", Buffer.from("GGUF".repeat(20)), /expected binary version 2/],
    ["more variables than bytes", modelFile([], { count: 2 ** 32 - 1 }), /expected 4294967295 variables, got 0 bytes/],
    ["more variables than there are", modelFile(variables, { count: 7 }), /truncated/],
    ["fewer variables than there are", modelFile(variables, { count: 5 }), /expected /],
    ["two of a name", modelFile([variable(good), variable(good)]), /unique names of variables, got a twice/],
    [
      "a name without an end",
      modelFile([Buffer.concat([u32(3).subarray(0, 2), Buffer.from("abcdefghi")])]),
      /zero byte/,
    ],
    ["too many dimensions", modelFile([variable({ ...good, shape: run(1, 200) })]), /at most \d+ dimensions, got 200/],
    [
      "items that do not fit",
      modelFile([variable(good, { items: 3 })]),
      /expected 2 items of a for shape \[2\], got 3/,
    ],
    [
      "items of another size",
      modelFile([variable(good, { itemBytes: 8 })]),
      /items of a to have 1, 2 or 4 bytes, got 8/,
    ],
    ["a shape beyond the file", modelFile([variable({ ...good, shape: [2 ** 31] }, { items: 2 ** 31 })]), /truncated/],
    ["an alias of nothing", aliases(u32(1), string("x"), string("y")), /x to stand for a variable, got y/],
    [
      "an alias of a name that is taken",
      aliases(u32(1), string("scalar"), string("a/weight")),
      /a name that nothing else has, got scalar/,
    ],
    ["more aliases than there are", aliases(u32(2), string("x"), string("scalar")), /truncated/],
    ["something behind", aliases(u32(0), Buffer.of(1)), /expected the end of the file, got 1 bytes more/],
  ])("%s", async (_, bytes, message) => {
    writeFileSync(file, bytes);
    await expectRejection(readCTranslate2(file), "ERR_FORMAT", message);
  });

  test("truncated anywhere", async () => {
    for (let length = 0; length < whole.length; length += length < 120 ? 1 : 397) {
      writeFileSync(file, whole.subarray(0, length));
      await expectRejection(readCTranslate2(file), "ERR_FORMAT", /truncated/);
    }
  });

  test("a file that does not exist", async () => {
    await expectRejection(readCTranslate2(`${file}.none`), "ERR_IO", /model\.bin\.none/);
  });
});

const published = sharedModel("ar-en-transliteration");
testUnless(!published && noShared)("reads a published model", async () => {
  await using model = await readCTranslate2(path.join(published!, "model.bin"));
  expect(model.spec).toEqual({ name: "TransformerBase", revision: 2 });
  expect(model.tensors.size).toBe(200);
  expect(model.tensors.get("decoder/layer_5/attention/linear_1/weight")!.shape).toEqual([64, 32]);
  expect((await model.readFloats("decoder/embeddings/weight"))[0]).toBeCloseTo(0.15134596824645996, 7);
});
