// Tests the rules for the rooms of lib/: dependency-cruiser with the repository's rules reports each import that goes
// upward or sideways, and nothing else.
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { cruise, type ICruiseOptions, type ICruiseResult, type IFlattenedRuleSet } from "dependency-cruiser";
import { beforeAll, expect, test } from "vitest";
import { sharedFolder } from "./support/folder.js";

const { default: rules } = (await import(new URL("../.dependency-cruiser.mjs", import.meta.url).href)) as {
  default: IFlattenedRuleSet;
};

const allowed = [
  ["lib/ops/a.ts", "lib/util/b.ts"],
  ["lib/ops/a.ts", "lib/core/b.ts"],
  ["lib/ops/a.ts", "lib/ops/b.ts"],
  ["lib/nn/a.ts", "lib/ops/b.ts"],
  ["lib/models/a.ts", "lib/nn/b.ts"],
  ["lib/optim/a.ts", "lib/nn/b.ts"],
  ["lib/train/a.ts", "lib/models/b.ts"],
  ["lib/train/a.ts", "lib/data/b.ts"],
  ["lib/data/a.ts", "lib/hub/b.ts"],
  ["lib/cli/a.ts", "lib/train/b.ts"],
  ["lib/server/a.ts", "lib/load/b.ts"],
  ["lib/plugins/ai/a.ts", "lib/plugins/b.ts"],
  ["lib/plugins/ai/a.ts", "lib/load/b.ts"],
  ["lib/pretrained/families/a.ts", "lib/models/gpt.ts"],
  ["lib/index.ts", "lib/cli/b.ts"],
  ["lib/index.ts", "lib/models/gpt.ts"],
  ["test/a.ts", "lib/cli/b.ts"],
] as const;

const forbidden = [
  ["lib/util/a.ts", "lib/core/b.ts", "util-imports"],
  ["lib/core/a.ts", "lib/ops/b.ts", "core-imports"],
  ["lib/core/a.ts", "lib/index.ts", "core-imports"],
  ["lib/ops/a.ts", "lib/nn/b.ts", "ops-imports"],
  ["lib/models/a.ts", "lib/optim/b.ts", "models-imports"],
  ["lib/formats/a.ts", "lib/models/b.ts", "formats-imports"],
  ["lib/tokenizer/a.ts", "lib/formats/b.ts", "tokenizer-imports"],
  ["lib/train/a.ts", "lib/generate/b.ts", "train-imports"],
  ["lib/data/a.ts", "lib/train/b.ts", "data-imports"],
  ["lib/data/a.ts", "lib/ops/b.ts", "data-imports"],
  ["lib/generate/a.ts", "lib/train/b.ts", "generate-imports"],
  ["lib/pretrained/a.ts", "lib/cli/b.ts", "pretrained-imports"],
  ["lib/server/a.ts", "lib/models/b.ts", "server-imports"],
  ["lib/engine/a.ts", "lib/server/b.ts", "engine-imports"],
  ["lib/plugins/ai/a.ts", "lib/models/b.ts", "plugins-imports"],
  ["lib/load/a.ts", "lib/plugins/b.ts", "load-imports"],
  ["lib/train/a.ts", "lib/models/gpt.ts", "no-family"],
  ["lib/cli/a.ts", "bench/b.ts", "lib-alone"],
  ["lib/house/a.ts", "lib/util/b.ts", "no-such-room"],
  ["lib/a.ts", "lib/util/b.ts", "no-such-room"],
] as const;

/** Imports as each can be written: the code, with the specifier in place of `@`. */
const forms = [
  'import "@";',
  'import type { X } from "@";',
  'export { x } from "@";',
  'export * from "@";',
  'const x = await import("@");',
  'type X = import("@").X;',
];

/** Each violation as `rule: from → to`. */
let found: string[];
const importers = [...allowed, ...forbidden].map(([from, to], index) => ({
  // A file for each case: what one imports must not be a case of another.
  from: from.replace(/a\.ts$/, from === "lib/index.ts" ? "index.ts" : `a${index}.ts`),
  to,
}));

beforeAll(async () => {
  const folder = sharedFolder();
  const write = (file: string, text: string): void => {
    mkdirSync(path.join(folder, path.dirname(file)), { recursive: true });
    writeFileSync(path.join(folder, file), text, { flag: "a" });
  };
  const specifier = (from: string, to: string): string => {
    const relative = path.relative(path.dirname(from), to).replace(/\.ts$/, ".js");
    return relative.startsWith(".") ? relative : `./${relative}`;
  };
  write("tsconfig.json", '{"compilerOptions":{"module":"nodenext","target":"es2022"}}');
  for (const { from, to } of importers) {
    write(to, "");
    write(from, `import ${JSON.stringify(specifier(from, to))};\n`);
  }
  forms.forEach((form, index) => write(`lib/ops/form${index}.ts`, form.replace("@", "../nn/b.js")));
  const options: ICruiseOptions = { ruleSet: rules, validate: true, baseDir: folder, tsPreCompilationDeps: true };
  const { output } = await cruise(["lib", "test"], options);
  found = (output as ICruiseResult).summary.violations.map(({ rule, from, to }) => `${rule.name}: ${from} → ${to}`);
});

test.each(importers.slice(0, allowed.length))("$from may import $to", ({ from, to }) => {
  expect(found.filter((text) => text.endsWith(`: ${from} → ${to}`))).toEqual([]);
});

test.each(forbidden.map(([, to, rule], index) => ({ ...importers[allowed.length + index]!, to, rule })))(
  "$from may not import $to",
  ({ from, to, rule }) => {
    expect(found).toContain(`${rule}: ${from} → ${to}`);
  },
);

test.each(forms)("an import written as %s is seen", (form) => {
  expect(found).toContain(`ops-imports: lib/ops/form${forms.indexOf(form)}.ts → lib/nn/b.ts`);
});
