/** Runs TypeScript programs that use heed as an installed package, as a user would write them. */
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import ts from "typescript";
import { dist } from "./dist.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
/** Programs in a folder of their own, in which the built heed is an installed package. */
export class Programs {
  readonly #names: string[] = [];

  constructor(readonly folder: string) {
    dist("index.js");
    mkdirSync(path.join(folder, "node_modules"), { recursive: true });
    symlinkSync(root, path.join(folder, "node_modules/heed"), "junction");
    for (const name of ["ai", "fastify", "@langchain", "@tensorflow", "zod"])
      symlinkSync(path.join(root, "node_modules", name), path.join(folder, "node_modules", name), "junction");
    writeFileSync(path.join(folder, "package.json"), '{"type": "module"}');
  }

  add(name: string, source: string): void {
    this.#names.push(name);
    writeFileSync(this.#file(name, "ts"), source);
  }

  /**
   * Compiles the programs for Node.js 20. Returns the errors that the compiler finds, each with the name of its
   * program.
   */
  compile(): string[] {
    const options: ts.CompilerOptions = {
      ...{ module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext },
      ...{ target: ts.ScriptTarget.ES2022, lib: ["lib.esnext.d.ts"], strict: true, skipLibCheck: true },
      ...{ types: ["node"], typeRoots: [path.join(root, "node_modules/@types")] },
    };
    const files = this.#names.map((name) => this.#file(name, "ts"));
    const program = ts.createProgram(files, options);
    program.emit();
    return ts.getPreEmitDiagnostics(program).map(({ file, messageText, start }) => {
      const name = path.basename(file?.fileName ?? "", ".ts");
      const line = file && start !== undefined ? file.getLineAndCharacterOfPosition(start).line + 1 : 0;
      return `${name}, line ${line}: ${ts.flattenDiagnosticMessageText(messageText, " ")}`;
    });
  }

  /** Compiles the programs without checking their types. */
  transpile(): void {
    const compilerOptions = {
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.ESNext,
      verbatimModuleSyntax: true,
    };
    for (const name of this.#names) {
      const { outputText } = ts.transpileModule(readFileSync(this.#file(name, "ts"), "utf8"), { compilerOptions });
      writeFileSync(this.#file(name, "js"), outputText);
    }
  }

  /**
   * Runs a compiled program and resolves to what it prints. Rejects if it fails. A program that serves is ended by SIGTERM
   * when `serving`, which gets the address that it prints, has resolved.
   */
  async run(
    name: string,
    args: readonly string[] = [],
    { input = "", serving }: { input?: string; serving?: (url: string) => Promise<void> } = {},
  ): Promise<string> {
    const running = promisify(execFile)(process.execPath, [this.#file(name, "js"), ...args], { cwd: this.folder });
    const { child } = running;
    child.stdin!.end(input);
    if (serving) {
      const url = new Promise<string>((resolve) => {
        let said = "";
        child.stdout!.on("data", (text: string) => {
          const found = /http:\S+(?=\s)/.exec((said += text));
          if (found) resolve(found[0]);
        });
      });
      try {
        await serving(await Promise.race([url, running.then(() => Promise.reject(new Error(`${name} has ended`)))]));
      } finally {
        child.kill();
      }
    }
    return (await running).stdout;
  }

  /** Runs compiled programs in one process, which is faster, and resolves to their errors. */
  async runAll(names: readonly string[]): Promise<string[]> {
    const main = path.join(this.folder, "run-all.mjs");
    writeFileSync(
      main,
      `const failed = [];
      for (const name of ${JSON.stringify(names)})
        await import(\`./\${name}.js\`).catch((error) => failed.push(\`\${name}: \${error.stack}\`));
      console.error(JSON.stringify(failed));`,
    );
    const { stderr } = await promisify(execFile)(process.execPath, [main], { cwd: this.folder });
    return JSON.parse(stderr.trim().split("\n").at(-1)!) as string[];
  }

  #file(name: string, extension: string): string {
    return path.join(this.folder, `${name}.${extension}`);
  }
}
