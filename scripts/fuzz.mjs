// npm run fuzz -- [--minutes n] [names of files] [options of vitest]
//
// Runs the properties of test/fuzz with new seeds (HEED_FUZZ_SEED names the first). Without --minutes each property is
// tried on its nightly number of cases, with one seed. With --minutes the files of test/fuzz take turns until the minutes
// are over, each time with the next seed and with the share of cases that fits. A name among the options chooses files.
// Tests that take too long to run on every change belong here (docs/testing.md).
import { spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";

const given = process.argv.slice(2);
const at = given.indexOf("--minutes");
const minutes = at < 0 ? null : Number(given[at + 1]);
const options = at < 0 ? given : given.toSpliced(at, 2);
const first = Number(process.env.HEED_FUZZ_SEED ?? randomInt(2 ** 31));

/**
 * Runs vitest. After `limit` milliseconds it is killed together with the processes of its tests, because a test in an
 * endless loop would not notice that vitest is gone.
 */
async function vitest(args, seed, env = {}, limit = undefined) {
  const group = process.platform !== "win32";
  const child = spawn("npx", ["--no-install", "vitest", "run", ...args], {
    stdio: ["ignore", "inherit", "inherit"],
    shell: !group,
    detached: group,
    env: { ...process.env, HEED_FUZZ: "nightly", HEED_FUZZ_SEED: String(seed), ...env },
  });
  const kill = () => (group ? process.kill(-child.pid, "SIGKILL") : child.kill());
  const interrupt = (signal) => {
    kill();
    process.kill(process.pid, signal);
  };
  const timer =
    limit &&
    setTimeout(() => {
      console.error(`fuzz: vitest has taken ${limit / 60_000} minutes, and is ended`);
      kill();
    }, limit);
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, interrupt);
  const [status] = await once(child, "exit");
  clearTimeout(timer);
  for (const signal of ["SIGINT", "SIGTERM"]) process.off(signal, interrupt);
  return status ?? 1;
}

/** The files of test/fuzz that the options name, or all of them, and the options that name no file. */
function chosenFiles() {
  const all = readdirSync("test/fuzz")
    .filter((name) => name.endsWith(".test.ts"))
    .map((name) => `test/fuzz/${name}`);
  const chosen = options.filter((option) => all.some((name) => name.includes(option)));
  return {
    files: all.filter((name) => chosen.length === 0 || chosen.some((part) => name.includes(part))),
    others: options.filter((option) => !chosen.includes(option)),
  };
}

/** Goes over the files again and again until the minutes are over. In each round a file gets at most a minute. */
async function takeTurns(minutes) {
  const end = Date.now() + minutes * 60_000;
  const { files, others } = chosenFiles();
  const tally = "build/fuzz/tally";
  rmSync(tally, { recursive: true, force: true });
  mkdirSync(tally, { recursive: true });
  const failures = [];
  let runs = 0;
  for (let seed = first; Date.now() < end; seed++)
    for (const file of files) {
      const left = end - Date.now();
      if (left <= 0) break;
      const seconds = Math.max(1, Math.min(60, left / 1000 / 2));
      const env = { HEED_FUZZ_SECONDS: String(seconds), HEED_FUZZ_TALLY: tally };
      runs++;
      if ((await vitest([file, ...others], seed, env, 10 * 60_000)) !== 0)
        failures.push(`HEED_FUZZ_SEED=${seed} npx vitest run ${file}`);
    }
  const cases = readdirSync(tally).reduce((sum, name) => sum + Number(readFileSync(`${tally}/${name}`, "utf8")), 0);
  const rounds = (runs / files.length).toFixed(1);
  console.log(
    `fuzz: ${minutes} minutes, ${rounds} rounds of ${files.length} files, ${cases} cases, seeds from ${first}`,
  );
  console.log(`fuzz: ${failures.length} failures${failures.map((line) => `\n  HEED_FUZZ=nightly ${line}`).join("")}`);
  return failures.length === 0 ? 0 : 1;
}

if (minutes === null) {
  console.log(`fuzz: HEED_FUZZ_SEED=${first}`);
  // vitest takes every file that one of its names fits, so that a folder beside a file would be all files.
  const { files, others } = chosenFiles();
  process.exitCode = await vitest([...files, ...others], first);
} else if (minutes > 0) process.exitCode = await takeTurns(minutes);
else {
  console.error(`fuzz: expected --minutes above 0, got ${given[at + 1]}`);
  process.exitCode = 2;
}
