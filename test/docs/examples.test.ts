/** The examples in docstrings compile and run, as a user would copy them. */
import { execFile } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import ts from "typescript";
import { expect, test } from "vitest";
import { dist } from "../support/dist.js";
import { sharedFolder } from "../support/folder.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const lib = path.join(root, "lib");
const folder = sharedFolder();

interface Example {
  /** The documented name and its file, as a test's name. */
  name: string;
  file: string;
  code: string;
  /** Whether it needs what a test must not ask for, such as a download: it is compiled and not run. */
  compiledOnly: boolean;
}

/** The first line of an example that is compiled and not run. */
const downloads = "// This downloads a model.";
/** What an example may use without making it. */
const given: Record<string, string> = {
  x: "const x = randn([2, 8], { seed: 1 });",
  tokenizer: "const tokenizer = new ByteTokenizer();",
  gpt: "const gpt = new GPT({ vocabularySize: 256, contextLength: 32, layers: 2, heads: 2, width: 16 }, { seed: 1 });",
};
/** The `model` of methods of what `load` returns; such an example is compiled and not run. */
const loaded: Record<string, string> = {
  "load/language-model.ts": "LanguageModel",
  "load/embedding-model.ts": "EmbeddingModel",
  "load/translator.ts": "Translator",
};

function examples(): Example[] {
  const found: Example[] = [];
  for (const file of readdirSync(lib, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"))) {
    const source = ts.createSourceFile(file, readFileSync(path.join(lib, file), "utf8"), ts.ScriptTarget.ESNext, true);
    const visit = (node: ts.Node): void => {
      for (const tag of ts.getJSDocTags(node).filter((tag) => tag.parent.parent === node)) {
        if (tag.tagName.text !== "example") continue;
        const code = ts.getTextOfJSDocComment(tag.comment) ?? "";
        const documented = (node as { name?: ts.Node }).name?.getText() ?? "";
        const compiledOnly = code.startsWith(downloads) || file in loaded;
        found.push({ name: `${documented} of lib/${file}`, file, code, compiledOnly });
      }
      ts.forEachChild(node, visit);
    };
    visit(source);
  }
  return found;
}

/** The names that index.ts exports. */
function exported(): string[] {
  const program = ts.createProgram([dist("index.d.ts")], {
    module: ts.ModuleKind.NodeNext,
    target: ts.ScriptTarget.ES2022,
  });
  const checker = program.getTypeChecker();
  const index = checker.getSymbolAtLocation(program.getSourceFile(dist("index.d.ts"))!)!;
  return checker.getExportsOfModule(index).map(({ name }) => name);
}

/** A program of an example: it may use what heed exports without importing it, and what is given. */
function programOf({ file, code }: Example, names: readonly string[]): string {
  const makes = (name: string): boolean => new RegExp(`\\b(const|let|using|function|class) ${name}\\b`).test(code);
  const uses = (text: string, name: string): boolean => new RegExp(`(?<![\\w$."])${name}\\b`).test(text);
  const wanted = (name: string): boolean => uses(code, name) && !makes(name);
  const lines = Object.keys(given).flatMap((name) => (wanted(name) ? [given[name]!] : []));
  if (loaded[file] && wanted("model")) lines.push(`declare const model: ${loaded[file]};`);
  const program = [...lines, code].join("\n");
  const used = names.filter((name) => uses(program, name) && !makes(name));
  return `import { ${used.join(", ")} } from "heed";\n${program}\nexport {};\n`;
}

const all = examples();
const fileOf = (i: number): string => path.join(folder, `example-${i}.ts`);

/** The program of every example, as JavaScript beside its TypeScript; returns what the compiler says. */
function compile(): string[] {
  const names = exported();
  for (const [i, example] of all.entries()) writeFileSync(fileOf(i), programOf(example, names));
  writeFileSync(path.join(folder, "package.json"), '{"type": "module"}');
  const options: ts.CompilerOptions = {
    ...{ module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext },
    ...{ target: ts.ScriptTarget.ES2022, lib: ["lib.esnext.d.ts"], strict: true, skipLibCheck: true },
    ...{ types: ["node"], typeRoots: [path.join(root, "node_modules/@types")], paths: { heed: [dist("index.d.ts")] } },
  };
  const program = ts.createProgram(
    all.map((_, i) => fileOf(i)),
    options,
  );
  const indexAddress = JSON.stringify(new URL(`file://${dist("index.js")}`).href);
  program.emit(undefined, (name, text) => {
    if (name.endsWith(".js")) writeFileSync(name, text.replace(/from "heed"/, `from ${indexAddress}`));
  });
  return ts.getPreEmitDiagnostics(program).map(({ file, messageText, start }) => {
    const i = Number(/example-(\d+)/.exec(file?.fileName ?? "")?.[1]);
    const line = file && start !== undefined ? file.getLineAndCharacterOfPosition(start).line : 0;
    return `${all[i]?.name}, line ${line}: ${ts.flattenDiagnosticMessageText(messageText, " ")}`;
  });
}

test("examples compile and run", async () => {
  expect(all.length).toBeGreaterThan(0);
  expect(compile()).toEqual([]);
  const run = path.join(folder, "run.mjs");
  const those = all.flatMap(({ name, compiledOnly }, i) =>
    compiledOnly ? [] : [[name, fileOf(i).replace(/\.ts$/, ".js")]],
  );
  // In one process: loading heed takes longer than an example.
  writeFileSync(
    run,
    `const failed = [];
    for (const [name, file] of ${JSON.stringify(those)})
      await import(file).catch((error) => failed.push(\`\${name}: \${error.stack}\`));
    console.error(failed.join("\\n"));
    process.exit(failed.length > 0 ? 1 : 0);`,
  );
  const { stderr } = await promisify(execFile)(process.execPath, [run], { cwd: folder }).catch(
    (error: unknown) => error as { stderr: string },
  );
  expect(stderr.trim()).toBe("");
});
