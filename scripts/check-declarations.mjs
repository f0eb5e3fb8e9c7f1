// Compiles a program that imports every entry of heed without skipLibCheck, as check-package.mjs asks for an installed
// package, under each kind of module resolution that Node.js and bundlers have.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const modules = path.join(root, "node_modules");
const kinds = [
  ["--module", "nodenext"],
  ["--module", "node16"],
  ["--module", "esnext", "--moduleResolution", "bundler"],
];
/**
 * Declarations that do not compile by themselves: those of tfjs-core 4.22 need the global type Long and a package that
 * contradicts the DOM of TypeScript 6. docs/guides/tensorflow-js.md says what a user can do.
 */
const broken = /^\S*(@tensorflow\/tfjs-core|@webgpu\/types|typescript\/lib\/lib\.dom)\b/;

/**
 * Checks the declarations of heed in `project`/node_modules: first of the entries that need no other package, and then of
 * all, with the packages that they need. Throws an error with the compiler's messages.
 */
export function checkDeclarations(project) {
  const { exports, peerDependencies } = JSON.parse(
    readFileSync(path.join(project, "node_modules/heed/package.json"), "utf8"),
  );
  const entries = Object.keys(exports).filter((entry) => exports[entry].types !== undefined);
  compile(project, [".", "./inspect"], kinds[0]);
  for (const name of Object.keys(peerDependencies)) {
    const link = path.join(project, "node_modules", name);
    if (!existsSync(path.join(modules, name)) || existsSync(link)) continue;
    mkdirSync(path.dirname(link), { recursive: true });
    symlinkSync(path.join(modules, name), link, "junction");
  }
  for (const kind of kinds) compile(project, entries, kind);
  return entries;
}

function compile(project, entries, kind) {
  const lines = entries.map((entry, i) => `export * as entry${i} from "heed${entry.slice(1)}";\n`);
  writeFileSync(path.join(project, "entries.ts"), lines.join(""));
  const types = ["--typeRoots", path.join(modules, "@types"), "--types", "node"];
  const options = ["--noEmit", "--strict", "--skipLibCheck", "false", "--target", "es2022", ...types, ...kind];
  const tsc = path.join(modules, "typescript/bin/tsc");
  const { stdout, stderr } = spawnSync(process.execPath, [tsc, "entries.ts", ...options], {
    cwd: project,
    encoding: "utf8",
  });
  // A message may have further lines, which are indented.
  const messages = `${stdout}${stderr}`.split(/\n(?!\s)/).filter((message) => message !== "" && !broken.test(message));
  if (messages.length > 0)
    throw new Error(`expected heed's declarations to compile with ${kind.join(" ")}, got:\n${messages.join("\n")}`);
}
