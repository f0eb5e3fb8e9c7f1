// ./check [--tests PART]… [--only CASES] [--smoke] in an unpacked bundle (npm run bundle:gpu): what this machine is, how
// long its driver takes to load the kernels, the tests of CUDA, the benchmarks, all of it in report.md, to be sent back.
// --tests runs the test files whose path contains PART alone ("none" runs no tests), --only the benchmarks whose name,
// shape or dtype contains one of CASES, --smoke one small case of each kind. HEED_CUDA_DRIVER names another driver
// library than libcuda.so.1. The exit code is 1 if anything fails.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { arch, cpus, release, totalmem } from "node:os";
import path from "node:path";
import { parseArgs, stripVTControlCharacters } from "node:util";

const { values: flags } = parseArgs({
  options: {
    tests: { type: "string", multiple: true, default: [] },
    only: { type: "string" },
    smoke: { type: "boolean", default: false },
  },
});
process.env.HEED_CUDA_DRIVER ??= "libcuda.so.1";
process.env.HEED_TEST_CUDA = "1";

const sections = [];
/** Lines that stand at the head of the report, one for each part. */
const summary = [];
let failed = false;

/** Adds a section to the report and writes the file at once, in case the machine goes down. */
function section(title, result, ...paragraphs) {
  summary.push(`- ${title}: ${result}`);
  sections.push(`## ${title}\n\n${paragraphs.filter(Boolean).join("\n\n")}\n`);
  writeFileSync("report.md", `# heed on a card\n\n${summary.join("\n")}\n\n${sections.join("\n")}`);
}

const fenced = (text) => `\`\`\`\`\n${stripVTControlCharacters(text).trimEnd()}\n\`\`\`\``;
const table = (head, rows) =>
  [head, head.map(() => "---"), ...rows]
    .map((row) => `| ${row.map((x) => String(x).replaceAll("|", "\\|")).join(" | ")} |`)
    .join("\n");
const minutes = (seconds) => (seconds < 100 ? `${seconds.toFixed(1)} s` : `${(seconds / 60).toFixed(1)} minutes`);

/** Runs Node.js, its output on the terminal and in the result. */
async function node(args, env = {}) {
  const start = performance.now();
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } });
  let [output, errors] = ["", ""];
  child.stdout.on("data", (data) => (process.stdout.write(data), (output += data)));
  child.stderr.on("data", (data) => (process.stderr.write(data), (errors += data)));
  const code = await new Promise((resolve) => child.on("close", (code, signal) => resolve(signal ?? code)));
  if (code !== 0) failed = true;
  return { code, output, errors, seconds: (performance.now() - start) / 1000 };
}

/** Returns the output of a system program, or a text that says that the program is missing. */
function system(command, ...args) {
  const { error, stdout } = spawnSync(command, args, { encoding: "utf8" });
  return error ? `${command} is not there` : stdout.trim();
}

/** Reports the machine and the cards that heed finds. At least one card must be usable. */
async function machine() {
  const bundle = JSON.parse(readFileSync("bundle.json", "utf8"));
  const about = [
    ["heed", `${bundle.version}, commit ${bundle.commit}, bundled on ${bundle.date}`],
    ["Node.js", `${process.version}, ${process.platform} ${arch()}`],
    [
      "system",
      `${/PRETTY_NAME="(.*)"/.exec(existsSync("/etc/os-release") ? readFileSync("/etc/os-release", "utf8") : "")?.[1] ?? "unknown"}, kernel ${release()}, glibc ${process.report.getReport().header.glibcVersionRuntime ?? "unknown"}`,
    ],
    [
      "processor",
      `${cpus()[0]?.model ?? "unknown"}, ${cpus().length} threads, ${(totalmem() / 2 ** 30).toFixed(0)} GiB`,
    ],
    ["driver library", process.env.HEED_CUDA_DRIVER],
  ];
  const module = "/proc/driver/nvidia/version"; // of the kernel
  let devices = [];
  let problem = "";
  try {
    const heed = await import("./dist/index.js");
    devices = heed.devices().filter(({ name }) => name.startsWith("cuda"));
  } catch (error) {
    problem = `heed does not load: ${error.stack}`;
  }
  const usable = devices.filter(({ available }) => available);
  section(
    "Machine",
    problem ? "heed does not load" : devices.map(({ name, description }) => `${name}: ${description}`).join("; "),
    table(["what", "version"], about),
    problem && fenced(problem),
    devices.length > 0 &&
      table(
        ["device", "usable", "what it is"],
        devices.map(({ name, available, description }) => [name, available ? "yes" : "no", description]),
      ),
    existsSync(module) && fenced(readFileSync(module, "utf8")),
    "What `nvidia-smi` says:",
    fenced(system("nvidia-smi")),
  );
  for (const { name, description } of devices) console.log(`${name}: ${description}`);
  return usable.length > 0;
}

/** Times the loading of each image of kernels: the driver compiles those that heed has no machine code for. */
async function loading() {
  const program = `
    import { brotliDecompressSync } from "node:zlib";
    import * as heed from "./dist/index.js";
    import { native } from "./dist/core/native.js";
    const seconds = async (work) => {
      const start = performance.now();
      await work();
      return (performance.now() - start) / 1000;
    };
    const { index } = heed.device("cuda");
    const opening = await seconds(() => native.synchronize(index));
    const rows = [];
    for (const { name } of native.kernelImages(index)) {
      const unpacked = brotliDecompressSync(native.packedImage(name));
      rows.push([name, await seconds(() => native.loadImage(index, name, unpacked))]);
    }
    console.log(JSON.stringify({ opening, rows }));
  `;
  // Without the driver's cache of what it compiled before.
  const { code, output, errors } = await node(["--input-type=module", "-e", program], { CUDA_CACHE_DISABLE: "1" });
  if (code !== 0) return section("Loading kernels", "fails", `It fails (exit code ${code}):`, fenced(errors || output));
  const { opening, rows } = JSON.parse(output.trim().split("\n").at(-1));
  const total = rows.reduce((sum, [, seconds]) => sum + seconds, 0);
  rows.sort((a, b) => b[1] - a[1]);
  section(
    "Loading kernels",
    `${total.toFixed(2)} s`,
    `The driver opens the device in ${opening.toFixed(2)} s. With its cache switched off, it loads all ${rows.length} ` +
      `images of kernels in **${total.toFixed(2)} s**, one after the other. A model needs some of them. The slowest are:`,
    table(
      ["image", "seconds"],
      rows.slice(0, 20).map(([name, seconds]) => [name, seconds.toFixed(3)]),
    ),
  );
}

async function tests() {
  if (flags.tests.includes("none")) return section("Tests", "left out");
  const file = "tests.json";
  rmSync(file, { force: true });
  const args = [
    "node_modules/vitest/vitest.mjs",
    "run",
    ...flags.tests,
    "-t",
    "cuda|CUDA",
    "--reporter=default",
    "--reporter=json",
  ];
  const { code, output, errors, seconds } = await node([...args, `--outputFile.json=${file}`]);
  if (!existsSync(file))
    return section("Tests", "no report", `They end without a report (exit code ${code}):`, fenced(output + errors));
  const { testResults } = JSON.parse(readFileSync(file, "utf8"));
  const all = testResults.flatMap(({ name, assertionResults }) =>
    assertionResults.map((result) => ({
      ...result,
      name: `${path.relative(process.cwd(), name)}: ${result.fullName}`,
    })),
  );
  const count = (wanted) => all.filter(({ status }) => status === wanted).length;
  const broken = testResults.filter(
    ({ status, assertionResults }) => status === "failed" && assertionResults.length === 0,
  );
  // Once a card is lost every test of the file fails with the same words.
  const failures = new Map();
  for (const { name, failureMessages } of all.filter(({ status }) => status === "failed")) {
    const why = failureMessages.join("\n\n");
    failures.set(why, [...(failures.get(why) ?? []), name]);
  }
  const counts = `${count("passed")} passed, ${count("failed")} failed${broken.length ? `, ${broken.length} files do not run` : ""}`;
  section(
    "Tests",
    counts,
    `${counts}, in ${minutes(seconds)}` +
      (flags.tests.length ? `, of the files whose path contains ${flags.tests.join(" or ")}` : "") +
      `; exit code ${code}.`,
    ...broken.map(
      ({ name, message }) => `### ${path.relative(process.cwd(), name)} does not run\n\n${fenced(message)}`,
    ),
    ...[...failures].map(
      ([why, [first, ...others]]) =>
        `### ${first}\n\n${fenced(why)}${others.length ? `\n\nThe same in ${others.length} others:\n\n${others.map((name) => `- ${name}`).join("\n")}` : ""}`,
    ),
    errors.trim() && "What the tests wrote to stderr:",
    errors.trim() && fenced(errors),
  );
}

async function benchmarks() {
  const args = ["build/bench/main.js", "--device", "cuda", "--json", "bench.json"];
  if (flags.only) args.push("--only", flags.only);
  if (flags.smoke) args.push("--smoke", "--seconds", "0.1", "--rounds", "1");
  const { code, output, errors, seconds } = await node(args);
  section(
    "Benchmarks",
    code === 0 ? `in ${minutes(seconds)}` : `exit code ${code}`,
    code === 0
      ? `They took ${minutes(seconds)}; bench.json has the figures with all digits.`
      : `They end with exit code ${code}.`,
    fenced(output + errors),
  );
}

rmSync("report.md", { force: true });
if (await machine()) {
  await loading();
  await tests();
  await benchmarks();
} else {
  failed = true;
  section("Result", "heed can use no card of this machine, so nothing was run");
}
console.log(`\n${failed ? "Something failed" : "All of it went well"}: please send ${path.resolve("report.md")} back.`);
process.exitCode = failed ? 1 : 0;
