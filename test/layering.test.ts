// Tests the lint rule that protects the layers of lib/: it reports violations, and nothing else.
import { Linter, type Rule } from "eslint";
import tseslint from "typescript-eslint";
import { expect, test } from "vitest";

const { default: rule } = (await import(new URL("../scripts/eslint-layering.mjs", import.meta.url).href)) as {
  default: Rule.RuleModule;
};

/** Returns the messages for a file of lib/ with this code. */
function lint(file: string, code: string): string[] {
  const linter = new Linter({ cwd: "/repository", configType: "flat" });
  const config: Linter.Config = {
    files: ["**/*.ts"],
    languageOptions: { parser: tseslint.parser },
    plugins: { heed: { rules: { layering: rule } } },
    rules: { "heed/layering": "error" },
  };
  return linter.verify(code, [config], { filename: `/repository/${file}` }).map((message) => message.message);
}

test.each([
  ["lib/ops/a.ts", 'import { x } from "../errors.js";'],
  ["lib/ops/a.ts", 'import { x } from "../tensor.js";'],
  ["lib/ops/a.ts", 'import { x } from "./b.js";'],
  ["lib/nn/a.ts", 'export * from "../ops/b.js";'],
  ["lib/models/a.ts", 'import type { X } from "../nn/b.js";'],
  ["lib/optim/a.ts", 'import { x } from "../ops/b.js";'],
  ["lib/train/a.ts", 'import { x } from "../formats/b.js"; import { y } from "../models/b.js";'],
  ["lib/data/a.ts", 'import { x } from "../train/b.js"; import { y } from "../hub/b.js";'],
  ["lib/cli/a.ts", 'import { x } from "../train/b.js"; import { y } from "commander";'],
  ["lib/server/a.ts", 'import { x } from "../engine/b.js"; import { y } from "../load/b.js";'],
  ["lib/plugins/ai/a.ts", 'import { x } from "../lazy-model.js"; import { y } from "../../load/b.js";'],
  ["lib/tensor.ts", 'import { x } from "./autograd.js"; import { y } from "./native.js";'],
  ["lib/index.ts", 'export { x } from "./cli/b.js";'],
  ["test/a.ts", 'import { x } from "../lib/cli/b.js";'],
])("%s may: %s", (file, code) => {
  expect(lint(file, code)).toEqual([]);
});

test.each([
  ["lib/errors.ts", 'import { x } from "./tensor.js";'],
  ["lib/tensor.ts", 'import { x } from "./ops/b.js";'],
  ["lib/tensor.ts", 'import { x } from "./index.js";'],
  ["lib/ops/a.ts", 'import type { X } from "../nn/b.js";'],
  ["lib/ops/a.ts", 'export { x } from "../nn/b.js";'],
  ["lib/ops/a.ts", 'export * from "../nn/b.js";'],
  ["lib/ops/a.ts", 'const x = await import("../nn/b.js");'],
  ["lib/ops/a.ts", 'type X = import("../nn/b.js").X;'],
  ["lib/models/a.ts", 'import { x } from "../optim/b.js";'],
  ["lib/formats/a.ts", 'import { x } from "../models/b.js";'],
  ["lib/tokenizer/a.ts", 'import { x } from "../formats/b.js";'],
  ["lib/train/a.ts", 'import { x } from "../generate/b.js";'],
  ["lib/train/a.ts", 'import { x } from "../data/b.js";'],
  ["lib/data/a.ts", 'import { x } from "../ops/b.js";'],
  ["lib/generate/a.ts", 'import { x } from "../train/b.js";'],
  ["lib/pretrained/a.ts", 'import { x } from "../cli/b.js";'],
  ["lib/server/a.ts", 'import { x } from "../ops/b.js";'],
  ["lib/server/a.ts", 'import { x } from "../models/b.js";'],
  ["lib/engine/a.ts", 'import { x } from "../server/b.js";'],
  ["lib/plugins/ai/a.ts", 'import { x } from "../../server/b.js";'],
  ["lib/plugins/ai/a.ts", 'import { x } from "../../models/b.js";'],
  ["lib/load/a.ts", 'import { x } from "../plugins/ai/b.js";'],
  ["lib/cli/a.ts", 'import { x } from "../../bench/b.js";'],
])("%s may not: %s", (file, code) => {
  expect(lint(file, code)).toEqual([expect.stringContaining("may not import")]);
});

test("a folder that is not a layer", () => {
  expect(lint("lib/utilities/a.ts", "")).toEqual([expect.stringContaining("lib/utilities/ is no layer")]);
});
