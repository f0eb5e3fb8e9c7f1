/** Tests what heed reports if there is no CUDA, and that it works without it. */
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { brotliCompressSync } from "node:zlib";
import { expect, test } from "vitest";
import { expectChild } from "../support/child.js";
import { noKernels } from "../support/cuda.js";
import { temporaryFolder } from "../support/folder.js";
import { linuxOnly, testUnless } from "../support/skip.js";

const root = fileURLToPath(new URL("../..", import.meta.url));

/**
 * Returns, for this driver library, the description of CUDA by `devices()`, the error of requesting it, and the device
 * that "auto" chooses, which must be the CPU.
 */
async function without(library: string): Promise<{ description: string; code: string; message: string; auto: string }> {
  const output = await expectChild(
    `
    const cuda = heed.devices().filter((info) => info.name.startsWith("cuda"));
    if (cuda.length !== 1 || cuda[0].available) throw new Error(JSON.stringify(cuda));
    let thrown;
    try { heed.device("cuda"); } catch (error) { thrown = error; }
    const auto = heed.device("auto").name;
    const sum = await heed.sum(heed.ones([3], { device: "auto" })).item();
    if (sum !== 3) throw new Error("expected 3, got " + sum);
    console.log(JSON.stringify({ description: cuda[0].description, code: thrown.code, message: thrown.message, auto }));
    `,
    0,
    { HEED_CUDA_DRIVER: library, HEED_DEVICE: "" },
  );
  return JSON.parse(output) as Awaited<ReturnType<typeof without>>;
}

testUnless(noKernels)("a driver library that does not exist", async () => {
  const { description, code, message, auto } = await without("/nonexistent/libcuda.so.1");
  expect(description).toMatch(/^the driver library named by HEED_CUDA_DRIVER cannot be loaded: .*No such file/);
  expect(code).toBe("ERR_DEVICE");
  expect(message).toBe(`device "cuda" is not available: ${description}`);
  expect(auto).toBe("cpu");
});

testUnless(noKernels)("a library that is not a CUDA driver", async () => {
  const { description } = await without(path.join(root, "build/Release/heed.node"));
  expect(description).toBe("the CUDA driver lacks cuInit: expected a driver of CUDA 11.4 (version 470) or later");
});

test("names of devices", async () => {
  const output = await expectChild(
    `
    for (const name of ["cuda:99", "cuda:-1", "gpu", "cuda:", 7]) {
      try { heed.device(name); } catch (error) { console.log(error.code, error.message); }
    }
    `,
  );
  const lines = output.split("\n");
  expect(lines).toHaveLength(5);
  expect(lines[0]).toMatch(/^ERR_DEVICE device "cuda:99" is not available: /);
  for (const [i, shown] of ['"cuda:-1"', '"gpu"', '"cuda:"', "7"].entries())
    expect(lines[i + 1]).toBe(`ERR_DEVICE expected device "cpu", "cuda", "cuda:1", … or "auto", got ${shown}`);
});

testUnless(process.platform !== "linux" && linuxOnly)("the addon links no CUDA library", () => {
  const { status, stdout } = spawnSync("ldd", [path.join(root, "build/Release/heed.node")], { encoding: "utf8" });
  expect(status).toBe(0);
  expect(stdout).toContain("libc.so");
  expect(stdout).not.toMatch(/cuda|nvidia|cublas|nvrtc/i);
});

test("a build without nvcc reports what is missing", () => {
  const folder = temporaryFolder();
  const compile = (args: string[], env: NodeJS.ProcessEnv): string => {
    const script = path.join(root, "scripts/compile-kernels.mjs");
    const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], {
      encoding: "utf8",
      env: { ...process.env, ...env },
    });
    expect(stderr).toBe("");
    expect(status).toBe(0);
    return stdout;
  };
  const broken = path.join(folder, "nvcc");
  writeFileSync(broken, "#!/bin/sh\necho 'nvcc fatal: no host compiler' >&2\nexit 1\n", { mode: 0o755 });
  for (const [nvcc, reason] of [
    ["nvcc-that-is-not-there", "nvcc-that-is-not-there was not found when heed was built"],
    [broken, `${broken} does not work: nvcc fatal: no host compiler when heed was built`],
  ] as const) {
    expect(compile(["--toolkit", folder], { HEED_NVCC: nvcc })).toBe(
      `heed: building without CUDA kernels: ${reason}\n`,
    );
    expect(readFileSync(path.join(folder, "toolkit.cc"), "utf8")).toContain(reason);
    // What would launch kernels is left out too.
    expect(readFileSync(path.join(folder, "toolkit.cc"), "utf8")).toContain("HEED_HOST_FUNCTION(name) nullptr");
    const source = path.join(root, "native/cuda/kernels/fill.cu");
    compile([folder, source, path.join(folder, "fill.cc")], { HEED_NVCC: nvcc });
    expect(readFileSync(path.join(folder, "fill.cc"), "utf8")).not.toContain("#include");
  }
});

test("a build without nvcc uses the kernels of the package, if they belong to its sources", async () => {
  const folder = temporaryFolder();
  for (const part of ["native", "scripts"]) cpSync(path.join(root, part), path.join(folder, part), { recursive: true });
  const script = path.join(folder, "scripts/compile-kernels.mjs");
  const build = (...args: string[]): string =>
    execFileSync(process.execPath, [script, ...args], {
      encoding: "utf8",
      env: { ...process.env, HEED_NVCC: "nvcc-that-is-not-there" },
    });
  const { sourceHash } = (await import(pathToFileURL(script).href)) as { sourceHash: () => string };
  const kernels = path.join(folder, "prebuilds/kernels");
  mkdirSync(kernels, { recursive: true });
  const ptx = ".version 7.4\n.visible .entry fill_kernel_f32()\n{\n\tret;\n}\n";
  writeFileSync(path.join(kernels, "fill.ptx.br"), brotliCompressSync(ptx));
  writeFileSync(path.join(kernels, "sources.sha256"), `${sourceHash()}\n`);

  const built = path.join(folder, "build");
  const [source, target] = [path.join(folder, "native/cuda/kernels/fill.cu"), path.join(built, "fill.cc")];
  expect(build("--toolkit", built)).toBe("");
  expect(readFileSync(path.join(built, "toolkit.cc"), "utf8")).toContain("kKernelsProblem = nullptr");
  build(built, source, target);
  expect(readFileSync(target, "utf8")).toContain('{"fill", 80, false, reinterpret_cast<const unsigned char*>(kPack0)');
  expect(readFileSync(target, "utf8")).toContain("fill_kernel_f32 = kImages[0]");

  writeFileSync(source, `${readFileSync(source, "utf8")}\n// changed\n`);
  expect(build("--toolkit", built)).toMatch(
    /^heed: building without CUDA kernels: nvcc-that-is-not-there was not found, and prebuilds\/kernels was made from other/,
  );
});
