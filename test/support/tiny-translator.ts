/**
 * Writes a CTranslate2 folder with a small model of random weights, for tests that only need some translator. The
 * weights of the character `spoilt` are NaN.
 */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { modelFile, quantizedVariables, typedVariable, variable } from "./ctranslate2.js";
import { Random } from "./random.js";

interface TinyTranslator {
  spec?: string;
  source?: string;
  target?: string;
  spoilt?: string;
  /** Type in which the weights are stored. By default it is f32 in the oldest version of the format. */
  weights?: "f16" | "int8" | "int16" | null;
}

export function writeTinyTranslator(
  folder: string,
  { spec = "TransformerBase", source = "abcdef", target = "xyz", spoilt = "", weights = null }: TinyTranslator = {},
): void {
  const [width, hidden] = [16, 12];
  const random = new Random(4);
  const counts = { made: 0 };
  const make = (name: string, ...shape: number[]): Buffer => {
    const size = shape.reduce((a, b) => a * b, 1);
    const middle = name.endsWith("gamma") ? 1 : 0;
    const values = Array.from({ length: size }, () => middle + 0.4 * random.normal());
    if (spoilt && name === "encoder/embeddings/weight") values[(3 + source.indexOf(spoilt)) * width] = NaN;
    counts.made += weights?.startsWith("int") && name.endsWith("/weight") ? 2 : 1;
    if (weights === null) return variable({ name, shape, values });
    const typed = { name, shape, values };
    if (weights === "f16") return typedVariable("f16", typed);
    return name.endsWith("/weight") ? Buffer.concat(quantizedVariables(weights, typed)) : typedVariable("f32", typed);
  };
  const linear = (name: string, out: number, inputs: number) => [
    make(`${name}/weight`, out, inputs),
    make(`${name}/bias`, out),
  ];
  const norm = (name: string) => [make(`${name}/layer_norm/gamma`, width), make(`${name}/layer_norm/beta`, width)];
  const self = (at: string) => [
    ...norm(`${at}/self_attention`),
    ...linear(`${at}/self_attention/linear_0`, 3 * width, width),
    ...linear(`${at}/self_attention/linear_1`, width, width),
  ];
  const feed = (at: string) => [
    ...norm(`${at}/ffn`),
    ...linear(`${at}/ffn/linear_0`, hidden, width),
    ...linear(`${at}/ffn/linear_1`, width, hidden),
  ];
  const cross = (at: string) => [
    ...norm(`${at}/attention`),
    ...linear(`${at}/attention/linear_0`, width, width),
    ...linear(`${at}/attention/linear_1`, 2 * width, width),
    ...linear(`${at}/attention/linear_2`, width, width),
  ];
  // Besides the characters there are <blank>, <s>, </s>, and <unk>, which is not listed.
  const [sources, targets] = [source.length + 4, target.length + 4];
  const variables = [
    make("encoder/embeddings/weight", sources, width),
    ...[0, 1].flatMap((i) => [...self(`encoder/layer_${i}`), ...feed(`encoder/layer_${i}`)]),
    ...norm("encoder"),
    make("decoder/embeddings/weight", targets, width),
    ...[...self("decoder/layer_0"), ...cross("decoder/layer_0"), ...feed("decoder/layer_0")],
    ...norm("decoder"),
    ...linear("decoder/projection", targets, width),
  ];
  writeFileSync(
    path.join(folder, "model.bin"),
    modelFile(variables, { spec, ...(weights !== null && { version: 4, count: counts.made }) }),
  );
  for (const [name, characters] of Object.entries({ source, target }))
    writeFileSync(
      path.join(folder, `${name}_vocabulary.txt`),
      ["<blank>", "<s>", "</s>", ...characters.split("")].map((token) => `${token}\n`).join(""),
    );
}
