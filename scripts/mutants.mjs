// npm run mutants [-- --only NAME]… [--write]: does `npm test` notice a broken kernel?
//
// Plants each bug of test/mutants.mjs in a copy of the sources (build/mutants), builds that, and runs the test files named
// there, on the software CUDA device alone. A mutant that no test notices is an error. --write keeps what was found in
// test/mutants-found.json and renews the table in docs/testing.md from it; of mutants that --only left out it keeps what
// was found before.
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, stripVTControlCharacters } from "node:util";
import { mutants } from "../test/mutants.mjs";

const { values: flags } = parseArgs({
  options: { only: { type: "string", multiple: true }, write: { type: "boolean" } },
});
const root = fileURLToPath(new URL("..", import.meta.url));
const copy = path.join(root, "build/mutants");
const record = path.join(root, "test/mutants-found.json");

/** Copies all files that are not built. The build folder of an earlier run stays, so that less has to be built. */
function prepare() {
  mkdirSync(copy, { recursive: true });
  // CMake compiles whatever files it finds.
  const native = path.join(copy, "native");
  if (existsSync(native))
    for (const file of readdirSync(native, { recursive: true }))
      if (!existsSync(path.join(root, "native", file)))
        rmSync(path.join(native, file), { recursive: true, force: true });
  const files = execFileSync("git", ["ls-files", "-co", "--exclude-standard"], { cwd: root, encoding: "utf8" });
  for (const file of files.split("\n").filter(Boolean)) {
    const [from, to] = [path.join(root, file), path.join(copy, file)];
    if (!existsSync(from)) rmSync(to, { force: true });
    else if (!existsSync(to) || !readFileSync(from).equals(readFileSync(to))) cpSync(from, to);
  }
  if (!existsSync(path.join(copy, "node_modules")))
    symlinkSync(path.join(root, "node_modules"), path.join(copy, "node_modules"));
}

function run(command, args) {
  return spawnSync(command, args, { cwd: copy, encoding: "utf8", maxBuffer: 1 << 28 });
}

function build() {
  expectSuccess(run("npx", ["--no-install", "cmake-js", "build", "--log-level", "error"]));
}

function expectSuccess({ status, stdout, stderr }) {
  if (status !== 0) throw new Error(`the build failed:\n${stdout}\n${stderr}`);
}

/** Runs tests. Returns those that fail, each with the first line of the reason, and the first finding of the sanitizer. */
function failures(tests) {
  const report = path.join(copy, "build/mutants.json");
  rmSync(report, { force: true });
  const args = [
    "--no-install",
    "vitest",
    "run",
    ...tests,
    "-t",
    "cuda|CUDA",
    "--reporter=json",
    `--outputFile=${report}`,
  ];
  const { stdout, stderr } = run("npx", args);
  if (!existsSync(report)) throw new Error(`vitest wrote no report:\n${stdout}\n${stderr}`);
  const { testResults, numPassedTests, numFailedTests } = JSON.parse(readFileSync(report, "utf8"));
  const broken = testResults.find((file) => file.assertionResults.length === 0);
  if (broken) throw new Error(`${path.relative(copy, broken.name)} does not run: ${broken.message}`);
  if (numPassedTests + numFailedTests === 0) throw new Error(`no test in ${tests.join(", ")} runs on cuda`);
  const failed = testResults.flatMap((file) =>
    file.assertionResults
      .filter(({ status }) => status === "failed")
      .map(({ fullName, failureMessages }) => ({ test: fullName, why: firstLine(failureMessages[0] ?? "") })),
  );
  return { failed, finding: /^heed simulator: device \d+: (kernel .*)$/m.exec(`${stderr}\n${stdout}`)?.[1] };
}

/** Returns the error of heed that a failure shows, if need be from a child process's output; otherwise its first line. */
function firstLine(message) {
  const text = stripVTControlCharacters(message);
  return /HeedError: .*/.exec(text)?.[0] ?? text.split("\n")[0];
}

function plant({ file, find, replace }) {
  const target = path.join(copy, file);
  const text = readFileSync(target, "utf8");
  const places = text.split(find).length - 1;
  if (places !== 1) throw new Error(`${file}: expected one place that reads ${JSON.stringify(find)}, found ${places}`);
  writeFileSync(
    target,
    text.replace(find, () => replace),
  );
  return () => writeFileSync(target, text);
}

/** Returns the record of a mutant: the first failing test, the reason, the finding of the sanitizer, the failing tests. */
const found = JSON.parse(readFileSync(record, "utf8"));

/** Returns the table of docs/testing.md, followed by the test and the finding that caught each mutant. */
function page() {
  // Paths in a finding are those of the machine that compiled the kernels; addresses differ from run to run.
  const quoted = (text) => `\`\`${text.replaceAll(copy, "").replaceAll(/0x[0-9a-f]{8,}/g, "0x…")}\`\``;
  const cell = (text) => text.replaceAll("|", "\\|");
  const rows = mutants.map(({ name, file }, i) => {
    const one = found[name];
    const by = !one ? "" : one.finding ? "the sanitizer" : "a test";
    return `| ${i + 1} | ${cell(name)} | \`${path.basename(file)}\` | ${by} | ${one?.failed ?? "not run"} |`;
  });
  const findings = mutants.map(({ name }, i) => {
    const number = `${i + 1}. `;
    if (!found[name]) return `${number}Not run.\n`;
    const { test, why, finding } = found[name];
    return `${number}${test}:\n\n${" ".repeat(number.length)}${quoted(finding ?? why)}\n`;
  });
  return [
    "|   | planted bug | file | caught by | failing tests |",
    "| - | --- | --- | --- | ---: |",
    ...rows,
    "\nEach item names the first test that fails, and quotes what the sanitizer found.",
    "If the sanitizer found nothing, the item quotes the message of the test.\n",
    ...findings,
  ].join("\n");
}

function write() {
  const known = Object.fromEntries(mutants.filter(({ name }) => found[name]).map(({ name }) => [name, found[name]]));
  writeFileSync(record, JSON.stringify(known, null, 2));
  const file = path.join(root, "docs/testing.md");
  const text = readFileSync(file, "utf8");
  const marked = /(<!-- mutants -->\n)[^]*(\n<!-- \/mutants -->)/;
  if (!marked.test(text)) throw new Error("docs/testing.md: expected the marks <!-- mutants --> and <!-- /mutants -->");
  writeFileSync(
    file,
    text.replace(marked, (_, before, after) => `${before}\n${page()}\n${after}`),
  );
  execFileSync("npx", ["--no-install", "prettier", "--write", "--log-level", "warn", file, record], { cwd: root });
}

const chosen = mutants.filter(({ name }) => !flags.only || flags.only.some((part) => name.includes(part)));
if (chosen.length === 0) throw new Error(`no mutant's name contains ${flags.only.join(" or ")}`);
prepare();
build();
expectSuccess(run("npm", ["run", "--silent", "build:ts"])); // some tests start programs of their own
for (const tests of new Set(chosen.map((mutant) => mutant.tests.join(" ")))) {
  const [broken] = failures(tests.split(" ")).failed;
  if (broken) throw new Error(`${tests} fails without any mutant: ${broken.test}: ${broken.why}`);
}
let missed = 0;
for (const mutant of chosen) {
  const restore = plant(mutant);
  const start = performance.now();
  try {
    build();
    const { failed, finding } = failures(mutant.tests);
    const seconds = Math.round((performance.now() - start) / 1000);
    if (failed.length === 0) {
      missed++;
      console.log(`${mutant.name}: NOT CAUGHT (${seconds} s)`);
      continue;
    }
    const [{ test, why }] = failed;
    found[mutant.name] = { test, why, ...(finding && { finding }), failed: failed.length };
    console.log(`${mutant.name}: caught by ${failed.length} tests (${seconds} s): ${test}: ${finding ?? why}`);
    if (flags.write) write(); // at once: all of them take long
  } finally {
    restore();
  }
}
console.log(`${chosen.length - missed} of ${chosen.length} mutants caught`);
process.exitCode = missed > 0 ? 1 : 0;
