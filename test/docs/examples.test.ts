/** The examples in docstrings and pages must compile and run as a user would copy them. */
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { beforeAll, expect, test } from "vitest";
import { noMpi } from "../distributed/launch.js";
import { dist } from "../support/dist.js";
import { sharedFolder } from "../support/folder.js";
import { Programs } from "../support/programs.js";
import { testUnless } from "../support/skip.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const lib = path.join(root, "lib");

interface Example {
  /** The documented name and its file. */
  name: string;
  code: string;
  /** Declarations of the values that the code uses without making them. */
  declarations: string[];
  /** True if it needs something that a test must not request, such as a download. */
  compiledOnly: boolean;
}

/** The first line of a docstring's example that is compiled and not run. */
const downloads = /^\/\/ This downloads a (model|data set|tokenizer)\./;
/** Values that a docstring's example may use without making them. */
const given: Record<string, string> = {
  x: "const x = randn([2, 8], { seed: 1 });",
  tokenizer: "const tokenizer = new ByteTokenizer();",
  gpt: "const gpt = new GPT({ vocabularySize: 256, contextLength: 32, layers: 2, heads: 2, width: 16 }, { seed: 1 });",
};
/** Class of `model` in examples for methods of the results of `load`; such an example is compiled and not run. */
const loaded: Record<string, string> = {
  "load/language-model.ts": "LanguageModel",
  "load/embedding-model.ts": "EmbeddingModel",
  "load/classifier-model.ts": "ClassifierModel",
  "load/translator.ts": "Translator",
};

const makes = (code: string, name: string): boolean =>
  new RegExp(`\\b(const|let|using|function|class) ${name}\\b`).test(code);
const uses = (code: string, name: string): boolean => new RegExp(`(?<![\\w$."])${name}\\b`).test(code);

function inDocstrings(): Example[] {
  const found: Example[] = [];
  for (const file of readdirSync(lib, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"))) {
    const source = ts.createSourceFile(file, readFileSync(path.join(lib, file), "utf8"), ts.ScriptTarget.ESNext, true);
    const visit = (node: ts.Node): void => {
      for (const tag of ts.getJSDocTags(node).filter((tag) => tag.parent.parent === node)) {
        if (tag.tagName.text !== "example") continue;
        const code = ts.getTextOfJSDocComment(tag.comment) ?? "";
        const documented = (node as { name?: ts.Node }).name?.getText() ?? "";
        const wanted = (name: string): boolean => uses(code, name) && !makes(code, name);
        const declarations = Object.keys(given).flatMap((name) => (wanted(name) ? [given[name]!] : []));
        if (loaded[file] && wanted("model")) declarations.push(`declare const model: ${loaded[file]};`);
        const compiledOnly = downloads.test(code) || file in loaded;
        found.push({ name: `${documented} of ${file}`, code, declarations, compiledOnly });
      }
      ts.forEachChild(node, visit);
    };
    visit(source);
  }
  return found;
}

function inPages(): Example[] {
  const pages = readdirSync(path.join(root, "docs"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => path.join("docs", name));
  return ["README.md", ...pages].flatMap((page) => {
    const text = readFileSync(path.join(root, page), "utf8");
    const blocks = [...text.matchAll(/```ts\n([\s\S]*?)```/g)].filter(([block]) => /from "heed["/]/.test(block));
    return blocks.map(([, code], i) => {
      // The program needs a download or a file of the reader's.
      const compiledOnly = /\bload\w*\(|"heed\/(ai|langchain)"|"node:fs|my-run/.test(code!);
      return { name: `program ${i + 1} of ${page}`, code: code!, declarations: [], compiledOnly };
    });
  });
}

/** Entries of heed, and their declarations. */
const entries = {
  ...{ heed: "index.d.ts", "heed/server": "server/index.d.ts", "heed/inspect": "inspect/index.d.ts" },
  ...{ "heed/ai": "plugins/ai/index.d.ts", "heed/langchain": "plugins/langchain/index.d.ts" },
};

/** Returns the names that each entry of heed exports. */
function exported(): Record<string, readonly string[]> {
  const options = { module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2022 };
  const files = Object.entries(entries).map(([entry, file]) => [entry, dist(file)] as const);
  const program = ts.createProgram(
    files.map(([, file]) => file),
    options,
  );
  const checker = program.getTypeChecker();
  const names = files.map(([entry, file]) => {
    const index = checker.getSymbolAtLocation(program.getSourceFile(file)!)!;
    return [entry, checker.getExportsOfModule(index).map(({ name }) => name)] as const;
  });
  return Object.fromEntries(names);
}

/** Returns the program of an example. One of a docstring uses what heed exports without importing it. */
function programOf({ code, declarations }: Example, modules: Readonly<Record<string, readonly string[]>>): string {
  const program = [...declarations, code, "export {};"].join("\n");
  if (/from "heed["/]/.test(code)) return program;
  const imports = Object.entries(modules).map(([module, names]) => {
    const used = names.filter((name) => uses(program, name) && !makes(code, name));
    return used.length > 0 ? `import { ${used.join(", ")} } from "${module}";\n` : "";
  });
  return `${imports.join("")}${program}\n`;
}

const folder = sharedFolder();

const programs = new Programs(folder);
let errors: string[] = [];
let examples: (Example & { file: string })[] = [];

beforeAll(() => {
  const modules = { ...exported(), ai: ["generateText", "streamText"], fastify: ["fastify"] };
  examples = [...inDocstrings(), ...inPages()].map((example, i) => {
    const file = `${i}: ${example.name}`.replaceAll(/[/:]/g, "-");
    programs.add(file, programOf(example, modules));
    return { ...example, file };
  });
  errors = programs.compile();
}, 240_000);

/** Returns the errors of the examples that do, or do not, open the processes of a run without asking for a launcher. */
async function failures({ opensProcesses }: { opensProcesses: boolean }): Promise<string[]> {
  const opens = ({ code }: Example): boolean => code.includes("Collectives.open(") && !code.includes("launched()");
  const chosen = examples.filter((example) => !example.compiledOnly && opens(example) === opensProcesses);
  expect(chosen.length).toBeGreaterThan(1);
  return programs.runAll(chosen.map(({ file }) => file));
}

test("examples compile and run", { timeout: 240_000 }, async () => {
  expect(examples.length).toBeGreaterThan(4);
  expect(errors).toEqual([]);
  expect(await failures({ opensProcesses: false })).toEqual([]);
});

testUnless(noMpi)("examples of several processes run in one", async () => {
  expect(await failures({ opensProcesses: true })).toEqual([]);
});
