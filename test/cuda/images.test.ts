/** Tests how kernels are divided into the images that a card loads. */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { temporaryFolder } from "../support/folder.js";
import { testUnless } from "../support/skip.js";

interface PtxImage {
  image: string;
  kernels: string[];
  ptx: string;
}
const root = fileURLToPath(new URL("../..", import.meta.url));
const { splitPtx } = (await import(pathToFileURL(path.join(root, "scripts/ptx.mjs")).href)) as {
  splitPtx: (ptx: string, imageOf: (kernel: string) => string) => PtxImage[];
};

const kernel = (name: string, body: string): string => `.visible .entry ${name}(
	.param .align 8 .b8 ${name}_param_0[16]
)
.maxntid 128, 1, 1
{
	.reg .b32 	%r<3>;
	// begin inline asm
{ mov.b32 %r1, 0;
}
	// end inline asm
	${body}
	ret;

}
`;
const plain = kernel("plain_f32", "mov.u32 \t%r1, %tid.x;");
const calling = kernel("calling_f32", "call.uni (retval0), outer, (param0);\n\tld.global.u32 \t%r2, [table];");
const named = kernel("named_f16", ".loc\t1 7 3, function_name $L__info_string1, inlined_at 1 9 1");
const outer =
  ".func  (.param .b32 func_retval0) outer(\n\t.param .b32 outer_param_0\n)\n{\n\tcall.uni inner;\n\tret;\n}\n";
const inner = ".func inner()\n{\n\tret;\n}\n";
const table = ".global .align 4 .b8 table[8] = {65, 144, 67, 60, 153, 149, 98, 219};\n";
const memory = ".extern .shared .align 16 .b8 memory[];\n";
const strings = "\t.section\t.debug_str\n\t{\n$L__info_string0:\n.b8 95,0\n$L__info_string1:\n.b8 96,0\n\n\t}\n";
const header = ".version 7.4\n.target sm_80\n.address_size 64\n";
const file = '\t.file\t1 "native/cuda/kernels/fill.cu"\n';
const whole = [`\n${header}`, inner, outer, table, memory, plain, calling, named, file, strings].join("\n");

test("an image has its kernels unchanged, and only those other parts that they use", () => {
  const images = splitPtx(whole, (name) => name.split("_")[1]!);
  expect(images.map(({ image, kernels }) => [image, kernels])).toEqual([
    ["f32", ["plain_f32", "calling_f32"]],
    ["f16", ["named_f16"]],
  ]);
  expect(images[0]!.ptx).toBe([header, inner, outer, table, plain, calling, file].join(""));
  const used = "\t.section\t.debug_str\n\t{\n$L__info_string1:\n.b8 96,0\n\n\t}\n";
  expect(images[1]!.ptx).toBe([header, named, file, used].join(""));
});

test("PTX that ends within a kernel is refused", () => {
  expect(() => splitPtx(whole.slice(0, whole.indexOf("ret;\n\n}")), () => "one")).toThrow(/ends within a statement/);
});

const built = path.join(root, "build/cuda");

testUnless(!existsSync(path.join(built, "whole")) && "need a build with CUDA kernels")(
  "the images of the build have every kernel of nvcc's once",
  () => {
    const kernels = (ptx: string): string[] => ptx.match(/^\.visible \.entry [^]*?\n\}\n/gm) ?? [];
    for (const name of readdirSync(path.join(built, "whole"))) {
      const file = name.replace(/\.ptx$/, "");
      const images = readdirSync(built).filter((image) => image === name || image.startsWith(`${file}.`));
      const parts = images
        .filter((image) => image.endsWith(".ptx"))
        .map((one) => readFileSync(path.join(built, one), "utf8"));
      const cut = parts.flatMap(kernels).sort();
      expect(cut).toEqual(kernels(readFileSync(path.join(built, "whole", name), "utf8")).sort());
    }
  },
);

test("a file may have its own architecture, PTX version and treatment of subnormal numbers", () => {
  const folder = temporaryFolder();
  for (const part of ["native/cuda", "native/core", "scripts"])
    cpSync(path.join(root, part), path.join(folder, part), { recursive: true });
  const table = path.join(folder, "native/cuda/kernels/images.json");
  writeFileSync(table, JSON.stringify({ fill: { architecture: "90a", ptx: "8.0", flush: true, image: "_(f\\d+)$" } }));
  // The arguments of the call are written next to its output.
  const nvcc = path.join(folder, "nvcc");
  const source = `.version 9.0\n.target sm_90a\n${kernel("fill_f32", "")}${kernel("fill_f16", "")}`;
  writeFileSync(path.join(folder, "ptx"), source);
  writeFileSync(path.join(folder, "cubin"), "machine code");
  for (const [name, output] of [
    ["nvcc", "ptx"],
    ["ptxas", "cubin"],
  ] as const) {
    const script = `#!/bin/sh\necho "$@" >>"${folder}/calls"\nfor word; do\n  [ "$last" = -o ] && cp "${folder}/${output}" "$word"\n  last=$word\ndone\ntrue\n`;
    writeFileSync(path.join(folder, name), script, { mode: 0o755 });
  }
  const built = path.join(folder, "build");
  const target = path.join(built, "fill.cc");
  for (const args of [
    ["--toolkit", built],
    [built, path.join(folder, "native/cuda/kernels/fill.cu"), target],
  ]) {
    const command = [path.join(folder, "scripts/compile-kernels.mjs"), ...args];
    const env = { ...process.env, HEED_NVCC: nvcc, HEED_CUBINS: "80,90,100" };
    const ended = spawnSync(process.execPath, command, { encoding: "utf8", env });
    expect(ended.stderr).toBe("");
  }
  const [probe, fill, machineCode] = readFileSync(path.join(folder, "calls"), "utf8").split("\n");
  expect(probe).toContain("-arch=compute_80");
  expect(fill).toContain("-arch=compute_90a");
  expect([probe, fill].map((call) => call!.includes("-ftz=true"))).toEqual([false, true]);
  expect(machineCode).toContain("-arch sm_90a");
  const text = readFileSync(target, "utf8");
  // One pack holds machine code and PTX of the first image, then of the second, each at a multiple of 16 bytes.
  expect(text).toContain("kCubins0[] = {{90, 0}};");
  const second = /kCubins1\[\] = \{\{90, (\d+)\}\};/.exec(text)![1];
  expect(Number(second) % 16).toBe(0);
  expect(text).toMatch(/\{"fill\.f32", 90, true, .*kPack0\), \d+, \d+, 16, kCubins0, 1\}/);
  expect(text).toMatch(/\{"fill\.f16", 90, true, .*kPack0\), \d+, \d+, \d+, kCubins1, 1\}/);
  expect(readFileSync(path.join(built, "fill.f16.ptx"), "utf8")).toMatch(/^\.version 8\.0\n/);
});
