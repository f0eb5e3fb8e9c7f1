// Formats the native sources in place. With --check it changes nothing and names the files that are not formatted (exit
// code 1). It needs version 19 of clang-format, because versions differ in details.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

function find() {
  for (const name of ["clang-format-19", "clang-format"]) {
    const { status, stdout } = spawnSync(name, ["--version"], { encoding: "utf8" });
    if (status === 0 && /version 19\./.test(stdout)) return name;
  }
  throw new Error("clang-format 19 is not installed (Debian: apt-get install clang-format-19)");
}

// The headers and tests of the C interface are in the style of C, and one of them is generated.
const folders = ["native", "test/native", "test/simulator", "examples/native-addon"];
const files = folders.flatMap((folder) =>
  readdirSync(path.join(root, folder), { recursive: true })
    .filter((name) => /\.(h|hpp|cc|cu|cuh)$/.test(name) && !/^include.heed(_operations)?\.h$|^build/.test(name))
    .map((name) => path.join(folder, name)),
);
const options = process.argv.includes("--check") ? ["--dry-run", "-Werror"] : ["-i"];

try {
  const { status } = spawnSync(find(), [...options, ...files], { cwd: root, stdio: "inherit" });
  process.exitCode = status ?? 1;
} catch (error) {
  console.error(`format-cpp: ${error.message}`);
  process.exitCode = 1;
}
