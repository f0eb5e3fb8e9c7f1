// npm run mutants [-- --only NAME] [--write]: does `npm test` notice a broken kernel?
//
// Plants each bug of test/mutants.mjs in a copy of the sources (build/mutants), builds that, and runs the test files named
// there, on the software CUDA device alone. A mutant that no test notices is an error. --write renews the table in
// docs/testing.md, or the rows of those that --only chose.
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, stripVTControlCharacters } from "node:util";
import { mutants } from "../test/mutants.mjs";

const { values: flags } = parseArgs({ options: { only: { type: "string" }, write: { type: "boolean" } } });
const root = fileURLToPath(new URL("..", import.meta.url));
const copy = path.join(root, "build/mutants");

/** A fresh copy of everything but what is built; the build folder of an earlier run stays, to build less. */
function prepare() {
  mkdirSync(copy, { recursive: true });
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

/** The tests that fail, each with the first line of why. */
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
  return testResults.flatMap((file) =>
    file.assertionResults
      .filter(({ status }) => status === "failed")
      .map(({ fullName, failureMessages }) => ({ name: fullName, why: firstLine(failureMessages[0] ?? "") })),
  );
}

function firstLine(message) {
  return stripVTControlCharacters(message.split("\n")[0]).slice(0, 160);
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

const chosen = mutants.filter(({ name }) => !flags.only || name.includes(flags.only));
prepare();
build();
expectSuccess(run("npm", ["run", "--silent", "build:ts"])); // some tests start programs of their own
for (const tests of new Set(chosen.map((mutant) => mutant.tests.join(" ")))) {
  const broken = failures(tests.split(" "));
  if (broken.length > 0) throw new Error(`${tests} fails without any mutant: ${broken[0].name}: ${broken[0].why}`);
}
const results = [];
for (const mutant of chosen) {
  const restore = plant(mutant);
  try {
    build();
    const found = failures(mutant.tests);
    results.push({ mutant, found });
    console.log(
      `${mutant.name}: ${found.length ? `caught by ${found.length} tests: ${found[0].name}: ${found[0].why}` : "NOT CAUGHT"}`,
    );
  } finally {
    restore();
  }
}
if (flags.write) {
  const page = path.join(root, "docs/testing.md");
  const text = readFileSync(page, "utf8");
  const cell = (text) => text.replaceAll("|", "\\|");
  const row = (mutant) => {
    const result = results.find((one) => one.mutant === mutant);
    const start = `| ${mutant.name} `;
    if (!result)
      return text.split("\n").find((line) => line.startsWith(start)) ?? `${start} | \`${mutant.file}\` | not run | |`;
    const first = result.found[0];
    return `${start} | \`${mutant.file}\` | ${cell(first ? `${first.name}: ${first.why}` : "nothing")} | ${result.found.length} |`;
  };
  const table = [
    "| planted bug | file | caught by, first of | tests |",
    "| --- | --- | --- | ---: |",
    ...mutants.map(row),
  ].join("\n");
  const marked = /(<!-- mutants -->\n)[^]*(\n<!-- \/mutants -->)/;
  if (!marked.test(text)) throw new Error("docs/testing.md: expected the marks <!-- mutants --> and <!-- /mutants -->");
  writeFileSync(
    page,
    text.replace(marked, (_, before, after) => `${before}\n${table}\n${after}`),
  );
  execFileSync("npx", ["--no-install", "prettier", "--write", "--log-level", "warn", page], { cwd: root });
}
const missed = results.filter(({ found }) => found.length === 0);
console.log(`${results.length - missed.length} of ${results.length} mutants caught`);
process.exitCode = missed.length > 0 ? 1 : 0;
