// Compiles native/cuda/kernels/*.cu for embedding; CMakeLists.txt and binding.gyp both call it.
//
//   node scripts/compile-kernels.mjs --toolkit DIR         looks for an nvcc that works and writes what it found into
//                                                           DIR: toolkit.json, and toolkit.cc for the addon, which has
//                                                           the table of the host functions
//   node scripts/compile-kernels.mjs DIR FILE.cu OUT.cc    writes the C++ file that holds FILE's images, which are PTX
//                                                           (and, with HEED_CUBINS=80,90, machine code), and its host
//                                                           function
//   node scripts/compile-kernels.mjs --ptx NVCC FILE OUT    writes FILE's PTX alone, as the addon's is (for tests)
//
// A file's kernels are one image, or as many as native/cuda/kernels/images.json cuts it into: a card loads an image as a
// whole when its first kernel is launched. There a file may have
//
//   image          a regular expression for the names of its kernels; what its groups capture is the name of the image
//   architecture   what it is compiled for instead of 80, such as "90a"; cards without that do not load it
//   ptx            the version of PTX that it needs instead of 7.4, such as "8.0"
//   flush          true if f32 instructions read and write subnormal numbers as zeros (.ftz), as those of the CPU do in
//                  the same operations (cpu/kernels/flush_subnormals.h)
//
// HEED_CUDA=0 leaves the kernels out. The kernels that the package ships (prebuilds/kernels) are taken, if it has any,
// unless HEED_NVCC, CUDACXX or HEED_CUBINS ask for a build of them. Without those and without an nvcc that works the
// build goes on, and the addon says what it lacks. A build without kernels has no host functions
// either, because nothing could call them. Uses no package: it runs where heed is built from source.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, brotliDecompressSync, constants } from "node:zlib";
import { splitPtx, withoutLines } from "./ptx.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const prebuilt = path.join(root, "prebuilds/kernels");

/** PTX version that drivers of CUDA 11.4 accept. nvcc writes its own, newer version even if the code does not need it. */
const ptxVersion = "7.4";
const architecture = "80";
/** True if the PTX says which source line each instruction is from. That is half of its text, so releases leave it out. */
const lines = process.env.HEED_LINE_INFO !== "0";
const flags = (architecture) => [
  "-std=c++17",
  `-arch=compute_${architecture}`,
  `-I${path.join(root, "native")}`,
  "-lineinfo",
  "-ptx",
];

const table = JSON.parse(readFileSync(path.join(root, "native/cuda/kernels/images.json"), "utf8"));
/** Returns the rules of images.json for a .cu file, given by its name without the ending. */
function rulesOf(file) {
  const { image, ...rest } = table[file] ?? {};
  return { architecture, ptx: ptxVersion, image: image && new RegExp(image), ...rest };
}

/** Returns the name of the image that a kernel goes to: "gemm_bf16.few", or "fill" if the file is one image. */
function imageOf(file, { image }, kernel) {
  const parts =
    image
      ?.exec(kernel)
      ?.slice(1)
      .filter((part) => part !== undefined) ?? [];
  return parts.length > 0 ? `${file}.${parts.join("_")}` : file;
}

/** Returns a hash of the sources of the kernels, which tells whether shipped kernels belong to these sources. */
export function sourceHash() {
  const hash = createHash("sha256").update(ptxVersion);
  for (const folder of ["native/cuda", "native/cuda/kernels", "native/core"])
    for (const name of readdirSync(path.join(root, folder)).sort())
      if (/\.(cu|h|def|json)$/.test(name)) hash.update(name).update(readFileSync(path.join(root, folder, name)));
  return hash.digest("hex");
}

/** Returns a path as the sanitizer shows it: relative to the repository, or the bare name of a toolkit's header. */
function shownPath(file) {
  const relative = path.relative(root, path.resolve(file));
  return relative.startsWith("..") ? path.basename(file) : relative.split(path.sep).join("/");
}

function portable(ptx, version) {
  return ptx
    .replace(/^\/\/.*\n/gm, "")
    .replace(/^\s*\.pragma "used_bytes_mask .*\n/gm, "") // a hint, which this version has not
    .replace(/^\.version .*$/m, `.version ${version}`)
    .replace(/^(\s*\.file\s+\d+\s+)"([^"]+)".*$/gm, (_, head, file) => `${head}"${shownPath(file)}"`);
}

function findToolkit(folder) {
  if (process.env.HEED_CUDA === "0") return { nvcc: null, problem: "HEED_CUDA=0 left them out when heed was built" };
  const named = process.env.HEED_NVCC || process.env.CUDACXX;
  const hash = path.join(prebuilt, "sources.sha256");
  const areShipped = existsSync(hash);
  const areCurrent = areShipped && readFileSync(hash, "utf8").trim() === sourceHash();
  // The shipped kernels are what nvcc would write, and cost a minute less.
  if (areCurrent && !named && !process.env.HEED_CUBINS) return { nvcc: null, problem: null };
  const nvcc = named || "nvcc";
  const probe = path.join(folder, "probe.cu");
  writeFileSync(probe, 'extern "C" __global__ void probe(float* x) { *x = 1; }\n');
  const args = [...flags(architecture), "-o", path.join(folder, "probe.ptx"), probe];
  const { status, stderr, error } = spawnSync(nvcc, args, { encoding: "utf8" });
  if (status === 0) return { nvcc, problem: null };
  if (areCurrent) return { nvcc: null, problem: null };
  const reason = error
    ? error.code === "ENOENT"
      ? `${nvcc} was not found`
      : error.message
    : `${nvcc} does not work: ${stderr.trim().split("\n")[0]}`;
  if (areShipped) return { nvcc: null, problem: `${reason}, and prebuilds/kernels was made from other sources` };
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
  const { architecture, ptx, flush } = rulesOf(path.basename(source, ".cu"));
  run(nvcc, [...flags(architecture), ...(flush ? ["-ftz=true"] : []), ...options, "-o", ptxFile, source]);
  writeFileSync(ptxFile, portable(readFileSync(ptxFile, "utf8"), ptx));
}

/** Returns the machine code of an image for those architectures of HEED_CUBINS that its PTX supports. */
function cubinsOf(nvcc, ptxFile, rules) {
  const exact = /^(\d+)[a-z]$/.exec(rules.architecture)?.[1];
  const wanted = (process.env.HEED_CUBINS ?? "").split(",").filter(Boolean);
  const possible = wanted.filter((one) => (exact ? one === exact : Number(one) >= Number(rules.architecture)));
  return possible.map((one) => {
    const cubin = ptxFile.replace(/ptx$/, `sm_${one}.cubin`);
    run(path.join(path.dirname(nvcc), "ptxas"), [
      "-arch",
      `sm_${exact ? rules.architecture : one}`,
      "-o",
      cubin,
      ptxFile,
    ]);
    return { architecture: one, bytes: readFileSync(cubin) };
  });
}

/** Returns the whole PTX of a file. */
function wholePtx(folder, source, target, { nvcc }) {
  const name = `${path.basename(source, ".cu")}.ptx`;
  if (!nvcc) writeFileSync(`${target}.d`, `${target}: ${source}\n`);
  if (!nvcc) return brotliDecompressSync(readFileSync(path.join(prebuilt, `${name}.br`))).toString();
  const file = path.join(folder, "whole", name);
  mkdirSync(path.dirname(file), { recursive: true });
  compilePtx(nvcc, source, file, ["-MD", "-MT", target, "-MF", `${target}.d`]);
  const ptx = readFileSync(file, "utf8");
  return lines ? ptx : withoutLines(ptx);
}

/** Largest number of unpacked bytes of images that share a pack. Unpacking them takes some 10 ms. */
const packBytes = 4 << 20;

/**
 * Puts the images of a file into packs, which Brotli compresses, and says where in its pack each part of an image lies
 * (image.h). The code for different architectures, and for bf16 and f16, is so much alike that images take half as much
 * together as they take alone.
 */
function packsOf(images) {
  const packs = [];
  for (const { image, ptx, cubins } of images) {
    const parts = [...cubins.map(({ bytes }) => bytes), Buffer.from(`${ptx}\0`)];
    const size = parts.reduce((sum, { length }) => sum + length + 15, 0);
    if (packs.length === 0 || packs.at(-1).bytes + size > packBytes) packs.push({ parts: [], bytes: 0, images: [] });
    const pack = packs.at(-1);
    const offsets = parts.map((part) => {
      const padding = Buffer.alloc(-pack.bytes & 15);
      pack.parts.push(padding, part);
      pack.bytes += padding.length + part.length;
      return pack.bytes - part.length;
    });
    const places = cubins.map(({ architecture }, i) => ({ architecture, offset: offsets[i] }));
    pack.images.push({ name: image, ptx: offsets.at(-1), cubins: places });
  }
  const { BROTLI_PARAM_QUALITY, BROTLI_PARAM_LGWIN, BROTLI_PARAM_SIZE_HINT } = constants;
  return packs.map(({ parts, bytes, images }) => {
    const params = {
      // Releases are small, other builds are made often.
      [BROTLI_PARAM_QUALITY]: images.some(({ cubins }) => cubins.length > 0) ? 11 : 4,
      [BROTLI_PARAM_LGWIN]: 24,
      [BROTLI_PARAM_SIZE_HINT]: bytes,
    };
    return { data: brotliCompressSync(Buffer.concat(parts), { params }), bytes, images };
  });
}

/** Returns C++ that defines the images of a file in an array and says which image each kernel is in. */
function* definitions(images, rules) {
  const [, number, exact] = /^(\d+)([a-z]?)$/.exec(rules.architecture);
  const rows = [];
  for (const [i, pack] of packsOf(images).entries()) {
    yield `constexpr char kPack${i}[] =\n${literal(pack.data)};`;
    for (const { name, ptx, cubins } of pack.images) {
      const list = cubins.map(({ architecture, offset }) => `{${architecture}, ${offset}}`).join(", ");
      const code = cubins.length > 0 ? `kCubins${rows.length}` : "nullptr";
      if (cubins.length > 0) yield `constexpr heed::cuda::Cubin ${code}[] = {${list}};`;
      const address = `reinterpret_cast<const unsigned char*>(kPack${i})`;
      const sizes = `${pack.data.length}, ${pack.bytes}, ${ptx}`;
      rows.push(`  {"${name}", ${number}, ${exact !== ""}, ${address}, ${sizes}, ${code}, ${cubins.length}},`);
    }
  }
  yield `const heed::cuda::Image kImages[] = {\n${rows.join("\n")}\n};`;
  yield "namespace image_of {";
  for (const [i, { kernels }] of images.entries())
    for (const kernel of kernels)
      yield `[[maybe_unused]] constexpr const heed::cuda::Image& ${kernel} = kImages[${i}];`;
  yield "}  // namespace image_of";
}

function compile(folder, source, target) {
  const name = path.basename(source, ".cu");
  const origin = `// Written from native/cuda/kernels/${name}.cu by scripts/compile-kernels.mjs.`;
  const toolkit = JSON.parse(readFileSync(path.join(folder, "toolkit.json"), "utf8"));
  // Only node-gyp asks for this; CMake compiles no such file then.
  if (toolkit.problem) return writeFileSync(target, `${origin}\n`);
  const rules = rulesOf(name);
  const whole = wholePtx(folder, source, target, toolkit);
  for (const old of readdirSync(folder))
    if (old.startsWith(`${name}.`) && /\.(ptx|cubin)$/.test(old)) rmSync(path.join(folder, old));
  const images = splitPtx(whole, (kernel) => imageOf(name, rules, kernel)).map((one) => {
    const file = path.join(folder, `${one.image}.ptx`);
    writeFileSync(file, one.ptx);
    return { ...one, cubins: toolkit.nvcc ? cubinsOf(toolkit.nvcc, file, rules) : [] };
  });
  const text = [
    origin,
    '#include "cuda/image.h"',
    "namespace {",
    ...(images.length > 0 ? definitions(images, rules) : []),
    "}  // namespace",
    "#define HEED_IMAGE_OF(kernel) ::image_of::kernel",
    `#include "cuda/kernels/${name}.cu"`,
  ];
  writeFileSync(target, `${text.join("\n")}\n`);
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
  const text = [
    "// Written by scripts/compile-kernels.mjs.",
    '#include "cuda/image.h"',
    `const char* const heed::cuda::kKernelsProblem = ${problem};`,
    `#define HEED_HOST_FUNCTION(name) ${toolkit.problem ? "nullptr" : "&host::name"}`,
    '#include "cuda/table.h"',
  ];
  write("toolkit.cc", `${text.join("\n")}\n`);
  if (toolkit.problem) console.log(`heed: building without CUDA kernels: ${toolkit.problem}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main(process.argv.slice(2));
