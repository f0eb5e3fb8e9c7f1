// Compiles native/cuda/kernels/*.cu for embedding; CMakeLists.txt and binding.gyp both call it.
//
//   node scripts/compile-kernels.mjs --toolkit DIR         looks for an nvcc that works and writes what it found into
//                                                           DIR: toolkit.json, and toolkit.cc for the addon
//   node scripts/compile-kernels.mjs DIR FILE.cu OUT.cc    writes the C++ file that holds FILE's PTX (and, with
//                                                           HEED_CUBINS=80,90, machine code) and its host function
//   node scripts/compile-kernels.mjs --ptx NVCC FILE OUT    writes FILE's PTX alone, as the addon's is (for tests)
//
// HEED_CUDA=0 leaves the kernels out. Without nvcc the kernels that the package ships (prebuilds/kernels) are taken; without those the build goes on, and
// the addon says what it lacks. Uses no package: it runs where heed is built from source.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const prebuilt = path.join(root, "prebuilds/kernels");

/** The PTX version that drivers of CUDA 11.4 know; nvcc writes its own, newer one, whatever the code uses. */
const ptxVersion = "7.4";
const flags = ["-std=c++17", "-arch=compute_80", `-I${path.join(root, "native")}`];
// Profilers and the software device then name a source line; half of the text.
if (process.env.HEED_LINE_INFO !== "0") flags.push("-lineinfo");

/** What the kernels are made from, to tell whether shipped ones belong to these sources. */
export function sourceHash() {
  const hash = createHash("sha256").update(ptxVersion);
  for (const folder of ["native/cuda", "native/cuda/kernels", "native/core"])
    for (const name of readdirSync(path.join(root, folder)).sort())
      if (/\.(cu|h|def)$/.test(name)) hash.update(name).update(readFileSync(path.join(root, folder, name)));
  return hash.digest("hex");
}

/** A path of this machine as the sanitizer shows it: relative to the repository, or the bare name of a toolkit's header. */
function shownPath(file) {
  const relative = path.relative(root, path.resolve(file));
  return relative.startsWith("..") ? path.basename(file) : relative.split(path.sep).join("/");
}

function portable(ptx) {
  return ptx
    .replace(/^\/\/.*\n/gm, "")
    .replace(/^\s*\.pragma "used_bytes_mask .*\n/gm, "") // a hint, which this version has not
    .replace(/^\.version .*$/m, `.version ${ptxVersion}`)
    .replace(/^(\s*\.file\s+\d+\s+)"([^"]+)".*$/gm, (_, head, file) => `${head}"${shownPath(file)}"`);
}

function findToolkit(folder) {
  if (process.env.HEED_CUDA === "0") return { nvcc: null, problem: "HEED_CUDA=0 left them out when heed was built" };
  const nvcc = process.env.HEED_NVCC || process.env.CUDACXX || "nvcc";
  const probe = path.join(folder, "probe.cu");
  writeFileSync(probe, 'extern "C" __global__ void probe(float* x) { *x = 1; }\n');
  const args = [...flags, "-ptx", "-o", path.join(folder, "probe.ptx"), probe];
  const { status, stderr, error } = spawnSync(nvcc, args, { encoding: "utf8" });
  if (status === 0) return { nvcc, problem: null };
  const reason = error
    ? error.code === "ENOENT"
      ? `${nvcc} was not found`
      : error.message
    : `${nvcc} does not work: ${stderr.trim().split("\n")[0]}`;
  const shipped = path.join(prebuilt, "sources.sha256");
  if (existsSync(shipped)) {
    if (readFileSync(shipped, "utf8").trim() === sourceHash()) return { nvcc: null, problem: null };
    return { nvcc: null, problem: `${reason}, and prebuilds/kernels was made from other sources` };
  }
  return { nvcc: null, problem: `${reason} when heed was built` };
}

function run(command, args) {
  const { status, error } = spawnSync(command, args, { stdio: "inherit" });
  if (status !== 0) throw new Error(`${command} failed${error ? `: ${error.message}` : ` (exit code ${status})`}`);
}

function literal(bytes) {
  let text = "";
  const lines = [];
  for (const byte of bytes) {
    const plain = byte >= 0x20 && byte < 0x7f && byte !== 0x22 && byte !== 0x5c && byte !== 0x3f;
    text += plain ? String.fromCharCode(byte) : byte === 10 ? "\\n" : `\\${byte.toString(8).padStart(3, "0")}`;
    if (byte === 10 || text.length > 1000) {
      lines.push(`"${text}"`);
      text = "";
    }
  }
  lines.push(`"${text}"`);
  return lines.join("\n");
}

function compilePtx(nvcc, source, ptxFile, options = []) {
  run(nvcc, [...flags, "-ptx", ...options, "-o", ptxFile, source]);
  writeFileSync(ptxFile, portable(readFileSync(ptxFile, "utf8")));
}

function compile(folder, source, target) {
  const name = path.basename(source, ".cu");
  const { nvcc, problem } = JSON.parse(readFileSync(path.join(folder, "toolkit.json"), "utf8"));
  const ptxFile = path.join(folder, `${name}.ptx`);
  const cubins = [];
  if (nvcc) {
    compilePtx(nvcc, source, ptxFile, ["-MD", "-MT", target, "-MF", `${target}.d`]);
    for (const architecture of (process.env.HEED_CUBINS ?? "").split(",").filter(Boolean)) {
      const cubin = path.join(folder, `${name}.sm_${architecture}.cubin`);
      const ptxas = path.join(path.dirname(nvcc), "ptxas");
      run(ptxas, ["-arch", `sm_${architecture}`, "-o", cubin, ptxFile]);
      cubins.push({ architecture, bytes: readFileSync(cubin) });
    }
  } else {
    writeFileSync(`${target}.d`, `${target}: ${source}\n`);
  }
  const shipped = path.join(prebuilt, `${name}.ptx`);
  const ptx = nvcc ? readFileSync(ptxFile) : problem ? null : readFileSync(shipped);
  const lines = [
    `// Written from native/cuda/kernels/${name}.cu by scripts/compile-kernels.mjs.`,
    '#include "cuda/image.h"',
    "namespace {",
    ...(ptx ? [`constexpr char kPtx[] =\n${literal(ptx)};`] : []),
    ...cubins.map(({ architecture, bytes }) => `alignas(16) constexpr char kSm${architecture}[] =\n${literal(bytes)};`),
    ...(cubins.length
      ? [
          "const heed::cuda::Cubin kCubins[] = {",
          ...cubins.map(
            ({ architecture, bytes }) =>
              `  {${architecture}, reinterpret_cast<const unsigned char*>(kSm${architecture}), ${bytes.length}},`,
          ),
          "};",
        ]
      : []),
    `const heed::cuda::Image kImage{"${name}.cu", ${ptx ? "kPtx" : "nullptr"}, ${cubins.length ? "kCubins" : "nullptr"}, ${cubins.length}};`,
    "}  // namespace",
    `#include "cuda/kernels/${name}.cu"`,
  ];
  writeFileSync(target, `${lines.join("\n")}\n`);
}

function main([first, ...rest]) {
  if (first === "--ptx") return compilePtx(...rest);
  if (first !== "--toolkit") return compile(first, ...rest);
  const [folder] = rest;
  mkdirSync(folder, { recursive: true });
  const toolkit = findToolkit(folder);
  const write = (name, text) => {
    const file = path.join(folder, name);
    if (!existsSync(file) || readFileSync(file, "utf8") !== text) writeFileSync(file, text);
  };
  write("toolkit.json", `${JSON.stringify(toolkit)}\n`);
  const problem = toolkit.problem
    ? JSON.stringify(`this build of heed has no CUDA kernels: ${toolkit.problem}`)
    : "nullptr";
  write(
    "toolkit.cc",
    `// Written by scripts/compile-kernels.mjs.\n#include "cuda/image.h"\nconst char* const heed::cuda::kKernelsProblem = ${problem};\n`,
  );
  if (toolkit.problem) console.log(`heed: building without CUDA kernels: ${toolkit.problem}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main(process.argv.slice(2));
