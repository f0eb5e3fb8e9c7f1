import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { loadCheckpoint } from "../../lib/train/checkpoint.js";
import { temporaryFolder } from "../support/folder.js";
import { testUnless } from "../support/skip.js";
import { type Ended, execute, heed, heedHere, main } from "./support.js";

const text = Array.from({ length: 300 }, (_, i) => `The whale number ${(i * i) % 97} swims. `).join("");

/** Makes a folder with a text, and returns the flags of a tiny run on it. */
function place(): { cwd: string; train: string[] } {
  const cwd = temporaryFolder();
  writeFileSync(path.join(cwd, "book.txt"), text);
  const size = ["--layers", "1", "--heads", "2", "--width", "16", "--context", "16", "--batch-size", "4"];
  return { cwd, train: ["train", "--data", "book.txt", "--out", "run", ...size] };
}

const parameters = (cwd: string, step: number): Buffer =>
  readFileSync(path.join(cwd, "run", `step-${String(step).padStart(8, "0")}`, "model.safetensors"));

interface LogLine {
  type: string;
  step: number;
  loss?: number;
  lr?: number;
}

const log = (cwd: string, file = "run/log.jsonl"): LogLine[] =>
  readFileSync(path.join(cwd, file), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as LogLine);

const losses = (cwd: string): [number, number][] =>
  log(cwd).flatMap(({ type, step, loss }) => (type === "step" ? [[step, loss!] as [number, number]] : []));

describe("train and generate", () => {
  test("work together", async () => {
    const { cwd, train } = place();
    const trained = await heed([...train, "--steps", "60", "--lr", "0.01", "--eval-every", "25"], { cwd });
    expect(trained).toMatchObject({ code: 0, stderr: "" });
    const lines = trained.stdout.trimEnd().split("\n");
    expect(lines[0]).toMatch(/^[\d,]+ parameters, [\d,]+ tokens to train on, [\d,]+ for validation$/);
    expect(lines[1]).toMatch(/^step 1 {2}loss 3\.\d+ {2}lr \S+ {2}[\d,]+ tokens\/s {2}\d+:\d\d left$/);
    expect(
      lines.filter((line) => /^step (25|50|60) {2}validation loss \d\.\d+ {2}perplexity \S+$/.test(line)),
    ).toHaveLength(3);
    expect(lines.at(-2)).toMatch(/^validation loss [12]\.\d+ nats per character$/);
    expect(lines.at(-1)).toBe('saved in run/step-00000060; try: heed generate --model run "…"');
    expect(log(cwd).map(({ type, step }) => `${type} ${step}`)).toEqual([
      "started 0",
      ...Array.from({ length: 25 }, (_, i) => `step ${i + 1}`),
      "evaluation 25",
      ...Array.from({ length: 25 }, (_, i) => `step ${i + 26}`),
      "evaluation 50",
      ...Array.from({ length: 10 }, (_, i) => `step ${i + 51}`),
      "evaluation 60",
      "checkpoint 60",
      "finished 60",
    ]);

    const generate = ["generate", "--model", "run", "--max-tokens", "30", "--overflow", "slide", "--seed", "5"];
    const first = await heed([...generate, "The whale"], { cwd });
    expect(first).toMatchObject({ code: 0, stderr: "" });
    expect(first.stdout).toHaveLength("The whale".length + 30);
    expect(first.stdout).toMatch(/^The whale/);
    expect(await heed([...generate, "The whale"], { cwd })).toEqual(first);
    expect((await heedHere([...generate.slice(0, -1), "6", "The whale"], cwd)).stdout).not.toBe(first.stdout);
    const bare = await heedHere([...generate, "--no-echo", "The whale"], cwd);
    expect(bare.stdout).toBe(first.stdout.slice("The whale".length));
    const piped = await heed([...generate, "-"], { cwd, input: "The whale" });
    expect(piped.stdout).toBe(first.stdout);
    const ofStep = await heedHere([...generate, "--model", "run/step-00000060", "The whale"], cwd);
    expect(ofStep.stdout).toBe(first.stdout);
    const unprompted = await heedHere(generate, cwd);
    expect(unprompted).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('expected only characters of the vocabulary, got "\\n"') as string,
    });
    const stopped = await heedHere([...generate, "--temperature", "0", "--stop", "e", "--stop", "~", "The whale"], cwd);
    const whole = await heedHere([...generate, "--temperature", "0", "The whale"], cwd);
    expect(stopped.stdout).toBe(`The whale${/^[^e]*/.exec(whole.stdout.slice("The whale".length))![0]}`);
    for (const flags of [
      ["--top-k", "1"],
      ["--top-p", "1e-9"],
      ["--min-p", "1"],
      ["--temperature", "0", "--min-tokens", "2", "--presence-penalty", "0", "--frequency-penalty", "0"],
    ])
      expect((await heedHere([...generate, ...flags, "The whale"], cwd)).stdout, flags.join(" ")).toBe(whole.stdout);
    for (const flags of [
      ["--repetition-penalty", "1e6"],
      ["--presence-penalty", "1e6"],
      ["--frequency-penalty", "1e6"],
    ]) {
      const penalised = await heedHere([...generate, "--temperature", "0", ...flags, "The whale"], cwd);
      expect(penalised.stdout, flags.join(" ")).not.toBe(whole.stdout);
    }
    const typical = await heedHere([...generate, "--typical-p", "1e-9", "The whale"], cwd);
    const again = await heedHere([...generate, "--typical-p", "1e-9", "The whale"], cwd);
    expect(again.stdout).toBe(typical.stdout);
    const strange = await heedHere([...generate, "Ω"], cwd);
    expect(strange).toMatchObject({
      code: 2,
      stderr: 'error: CharTokenizer: expected only characters of the vocabulary, got "Ω" (U+03A9)\n',
    });
  });

  test("every kind of tokens, a separate text for validation, none at all, another log", async () => {
    const { cwd, train } = place();
    writeFileSync(path.join(cwd, "other.txt"), `${text.slice(0, 500)}?\n`);
    const run = (out: string, ...flags: string[]) => heedHere([...train, "--steps", "3", "--out", out, ...flags], cwd);
    const byte = await run("byte", "--tokenizer", "byte", "--validation", "other.txt", "--log", "logs/a.jsonl");
    expect(byte.stdout).toContain(" 502 for validation");
    expect(byte.stdout).toContain("nats per byte");
    expect(log(cwd, "logs/a.jsonl")).toHaveLength(1 + 3 + 3);
    const gpt2 = await run("gpt2", "--tokenizer", "gpt2", "--validation-fraction", "0");
    expect(gpt2.stdout).toContain("no validation");
    expect(gpt2.stdout).not.toContain("validation loss");
    const char = await run("char", "--validation", "other.txt");
    expect(char).toMatchObject({ code: 0 });
    for (const [out, prompt] of [
      ["byte", "Ω"],
      ["gpt2", ""],
      ["char", "?"],
    ] as const) {
      const { code, stderr } = await heedHere(["generate", "--model", out, "--max-tokens", "5", prompt], cwd);
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    }
  });

  test("if nobody reads the output, generation ends quietly", async () => {
    const { cwd, train } = place();
    await heed([...train, "--steps", "1"], { cwd });
    const command = `"${process.execPath}" "${main}" generate --model run --max-tokens 100000 --overflow slide The | head -c 8; echo " \${PIPESTATUS[0]}"`;
    expect(await execute("bash", ["-c", command], { cwd })).toMatchObject({
      stdout: expect.stringMatching(/^The.{5} 0\n$/s) as string,
      stderr: "",
    });
  });

  test("a loss that is not finite is reported in one line, with exit code 1", async () => {
    const { cwd, train } = place();
    const { code, stderr } = await heedHere([...train, "--lr", "1e38", "--max-norm", "0", "--steps", "30"], cwd);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: Trainer: expected a finite loss, got NaN at step \d+\n$/);
  });
});

test("seven epochs of 29 windows in batches of 7 are 29 steps", async () => {
  const { cwd, train } = place();
  writeFileSync(path.join(cwd, "book.txt"), text.slice(0, 29 * 16 + 1));
  const flags = ["--batch-size", "7", "--epochs", "7", "--validation-fraction", "0"];
  expect(await heedHere([...train, ...flags], cwd)).toMatchObject({ code: 0, stderr: "" });
  // In floating point, 29 / 7 · 7 is more than 29.
  expect(losses(cwd).at(-1)![0]).toBe(29);
});

test("optimisers, schedules and averages have flags", async () => {
  const { cwd, train } = place();
  const settings = ["--optimizer", "muon", "--schedule", "wsd", "--ema", "0.9", "--epochs", "0.04", "--best"];
  expect(await heedHere([...train, ...settings], cwd)).toMatchObject({ code: 0, stderr: "" });
  // 0.04 epochs of 6,500 characters in batches of 4 windows of 16 are 5 steps.
  const { optimizer, average, state } = await loadCheckpoint(path.join(cwd, "run", "best"));
  expect(state).toMatchObject({ step: 5, options: { optimizer: "muon", warmup: 0, steps: 5, epochs: 0.04 } });
  expect(optimizer.moments).not.toHaveProperty(["v.h.0.mlp.c_fc.weight"]);
  expect(average).toHaveProperty(["h.0.mlp.c_fc.weight"]);
  const rates = log(cwd).flatMap(({ type, lr }) => (type === "step" ? [lr!] : []));
  expect(rates).toEqual([0.02, 0.02, 0.02, 0.02, 0.02]);
  expect(await heedHere(["generate", "--model", "run", "--ema", "--max-tokens", "3", "The"], cwd)).toMatchObject({
    code: 0,
    stderr: "",
  });
  for (const [flags, message] of [
    [["--momentum", "0.5"], "--momentum: works only with --optimizer sgd or muon"],
    [["--decay-steps", "3"], "--decay-steps: works only with --schedule wsd"],
    [["--epochs", "1", "--steps", "3"], "--epochs: expected either --steps or --epochs, got both"],
  ] as const)
    expect(await heedHere([...train, "--out", "other", ...flags], cwd)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(`error: ${message}\n`) as string,
    });
});

describe("a Llama", () => {
  test("is trained, resumes and generates", async () => {
    const { cwd, train } = place();
    const run = [
      ...train,
      "--family",
      "llama",
      "--kv-heads",
      "1",
      "--feed-forward-width",
      "24",
      "--dropout",
      "0.1",
      "--lr",
      "0.01",
    ];
    const trained = await heedHere([...run, "--steps", "30"], cwd);
    expect(trained).toMatchObject({ code: 0, stderr: "" });
    const [first, last] = [losses(cwd)[0]![1], losses(cwd).at(-1)![1]];
    expect(last).toBeLessThan(0.8 * first);
    const config = JSON.parse(readFileSync(path.join(cwd, "run/step-00000030/config.json"), "utf8")) as object;
    expect(config).toMatchObject({ model_type: "llama", num_key_value_heads: 1, intermediate_size: 24 });
    const resume = ["train", "--out", "run", "--resume"];
    expect(await heedHere([...resume, "--steps", "32"], cwd)).toMatchObject({ code: 0, stderr: "" });
    expect(losses(cwd).at(-1)![0]).toBe(32);
    for (const [flag, value, has] of [
      ["--family", "gpt", "llama"],
      ["--kv-heads", "2", "1"],
      ["--feed-forward-width", "8", "24"],
    ] as const)
      expect(await heedHere([...resume, flag, value], cwd)).toMatchObject({
        code: 2,
        stderr: `error: ${flag} ${value}: expected ${has}, as in the run in run; a resumed run cannot change it\n`,
      });
    const said = await heedHere(["generate", "--model", "run", "--max-tokens", "7", "The whale"], cwd);
    expect(said).toMatchObject({ code: 0, stderr: "" });
    expect(said.stdout).toHaveLength("The whale".length + 7);
  });

  test("has two thirds of a GPT's feed-forward, in whole tiles, by default", async () => {
    const { cwd, train } = place();
    expect(await heedHere([...train, "--family", "llama", "--steps", "1"], cwd)).toMatchObject({ code: 0 });
    const config = JSON.parse(readFileSync(path.join(cwd, "run/step-00000001/config.json"), "utf8")) as object;
    expect(config).toMatchObject({ intermediate_size: 64, num_key_value_heads: 2 });
  });
});

test("a GPT with other positions and a window; a Llama has its own", async () => {
  const { cwd, train } = place();
  const run = [...train, "--positions", "rotary", "--window", "8", "--steps", "2"];
  expect(await heedHere(run, cwd)).toMatchObject({ code: 0, stderr: "" });
  const config = JSON.parse(readFileSync(path.join(cwd, "run/step-00000002/config.json"), "utf8")) as object;
  expect(config).toMatchObject({ heed_positions: "rotary", heed_window: 8 });
  const resume = ["train", "--out", "run", "--resume", "--steps", "3"];
  expect(await heedHere([...resume, "--positions", "alibi"], cwd)).toMatchObject({
    code: 2,
    stderr: "error: --positions alibi: expected rotary, as in the run in run; a resumed run cannot change it\n",
  });
  expect(await heedHere(resume, cwd)).toMatchObject({ code: 0, stderr: "" });
  const llama = [...train, "--out", "other", "--family", "llama", "--positions", "alibi"];
  expect(await heedHere(llama, cwd)).toMatchObject({ code: 2, stderr: expect.stringContaining("rotary") as unknown });
});

test("documents are trained on separately", async () => {
  const { cwd, train } = place();
  const parts = text.match(/.{1,40}/g)!;
  writeFileSync(path.join(cwd, "book.txt"), parts.join("<|endoftext|>"));
  const run = (out: string, ...flags: string[]) =>
    heedHere([...train, "--steps", "3", "--tokenizer", "gpt2", "--out", out, ...flags], cwd);
  const apart = await run("apart", "--documents");
  expect(apart).toMatchObject({ code: 0, stderr: "" });
  const together = await run("together");
  const count = ({ stdout }: { stdout: string }) => /([\d,]+) tokens to train on/.exec(stdout)![1]!.replaceAll(",", "");
  // The end of text is one token there; here it is the characters of its name.
  expect(Number(count(apart))).toBeLessThan(Number(count(together)));
  expect(await heedHere(["train", "--out", "apart", "--resume", "--steps", "4"], cwd)).toMatchObject({ code: 0 });
  expect(log(cwd, "apart/log.jsonl").at(-1)).toMatchObject({ type: "finished", step: 4 });
  expect(await heedHere([...train, "--documents"], cwd)).toMatchObject({
    code: 2,
    stderr: "error: --documents: works only with --tokenizer gpt2, which has a token that begins a document\n",
  });
});

describe("resuming", () => {
  test("continues as if nothing had been between", async () => {
    const { cwd, train } = place();
    const flags = [...train, "--dropout", "0.1", "--accumulate", "2", "--eval-every", "5", "--seed", "3"];
    await heedHere([...flags, "--steps", "20"], cwd);
    const whole = { losses: losses(cwd), parameters: parameters(cwd, 20) };

    const second = place().cwd;
    let killed = false;
    const first = await heed(
      [...flags, "--steps", "20", "--checkpoint-every", "8", "--data", path.join(cwd, "book.txt")],
      {
        cwd: second,
        watch: (output, kill) => {
          if (killed || !output.includes("saved run/step-00000008")) return;
          killed = true;
          kill("SIGKILL");
        },
      },
    );
    if (first.signal !== "SIGKILL") expect(first.code).toBe(0);
    else
      expect(await heed(["train", "--out", "run", "--resume"], { cwd: second })).toMatchObject({ code: 0, stderr: "" });
    expect(parameters(second, 20).equals(whole.parameters)).toBe(true);
    const seen = new Map(losses(second));
    expect([...seen]).toEqual(whole.losses);
  });

  test("an incomplete checkpoint is skipped, with a warning", async () => {
    const { cwd, train } = place();
    await heedHere([...train, "--steps", "6", "--checkpoint-every", "3"], cwd);
    truncateSync(path.join(cwd, "run", "step-00000006", "optimizer.safetensors"), 100);
    const resumed = await heedHere(["train", "--out", "run", "--resume", "--steps", "7"], cwd);
    expect(resumed).toMatchObject({ code: 0, stdout: expect.stringContaining("; continuing from step 3\n") as string });
    expect(resumed.stderr).toMatch(
      /^warning: run\/step-00000006 is incomplete \(run\/step-00000006\/optimizer\.safetensors: .*\); continuing from run\/step-00000003\n$/,
    );
    expect(losses(cwd).map(([step]) => step)).toEqual([1, 2, 3, 4, 5, 6, 4, 5, 6, 7]);
  });

  test("other batch sizes continue with the next sequence; less of the data is refused, other data is not", async () => {
    const { cwd, train } = place();
    await heedHere([...train, "--steps", "4"], cwd);
    const resume = ["train", "--out", "run", "--resume"];
    const position = async (): Promise<unknown> => (await loadCheckpoint(path.join(cwd, "run"))).state.position;
    expect(await heedHere([...resume, "--steps", "6", "--batch-size", "3", "--accumulate", "2"], cwd)).toMatchObject({
      code: 0,
    });
    expect(await position()).toMatchObject({ sequences: 4 * 4 + 2 * 6, microBatches: 8 });
    const less = await heedHere([...resume, "--steps", "7", "--validation-fraction", "0.5"], cwd);
    expect(less.code).toBe(2);
    expect(less.stderr).toMatch(
      /^error: Trainer: expected \d+ sequences of 16 tokens, as when .*, got \d+ sequences.*\n$/,
    );
    writeFileSync(path.join(cwd, "other.txt"), text.slice(0, 3000));
    const other = await heedHere([...resume, "--steps", "7", "--data", "other.txt"], cwd);
    expect(other).toMatchObject({ code: 0, stderr: "" });
    expect(await position()).toMatchObject({ sequences: 6, microBatches: 10 });
  });

  test("accepts new flags, except those that define the model", async () => {
    const { cwd, train } = place();
    await heedHere([...train, "--steps", "4"], cwd);
    const resume = ["train", "--out", "run", "--resume"];
    const more = await heedHere([...resume, "--steps", "6"], cwd);
    expect(more).toMatchObject({ code: 0, stdout: expect.stringContaining("; continuing from step 4\n") as string });
    expect(parameters(cwd, 6).length).toBeGreaterThan(0);
    expect(await heedHere([...resume, "--layers", "1"], cwd)).toMatchObject({ code: 0 });
    expect(await heedHere([...resume, "--layers", "2"], cwd)).toMatchObject({
      code: 2,
      stderr: "error: --layers 2: expected 1, as in the run in run; a resumed run cannot change it\n",
    });
    expect(await heedHere(train, cwd)).toMatchObject({
      code: 2,
      stderr: "error: --out run: contains a run already; add --resume to continue it\n",
    });
    writeFileSync(path.join(cwd, "book.txt"), `${text} The whale swims.`);
    expect(await heedHere([...resume, "--steps", "7"], cwd)).toMatchObject({
      code: 1,
      stderr: `error: ${path.join(cwd, "book.txt")}: expected the text with which the run began, got another one; give --data to train on it\n`,
    });
    expect(await heedHere([...resume, "--steps", "7", "--data", "book.txt"], cwd)).toMatchObject({ code: 0 });
  });

  test("a checkpoint's flags are checked", async () => {
    const { cwd, train } = place();
    await heedHere([...train, "--steps", "1"], cwd);
    const file = path.join(cwd, "run", "step-00000001", "trainer.json");
    const state = JSON.parse(readFileSync(file, "utf8")) as { options: Record<string, unknown> };
    state.options.batchSize = "4";
    writeFileSync(file, JSON.stringify(state));
    expect(await heedHere(["train", "--out", "run", "--resume"], cwd)).toMatchObject({
      code: 1,
      stderr: `error: run/step-00000001: expected batchSize in trainer.json to be a number, got string\n`,
    });
  });
});

test("a folder has one run at a time, until it ends, whether by itself or not", async () => {
  const { cwd, train } = place();
  let second: Promise<Ended> | undefined;
  let resumed: Promise<Ended> | undefined;
  const first = await heed([...train, "--steps", "1000000", "--warmup", "1", "--checkpoint-every", "5"], {
    cwd,
    watch: (output, kill) => {
      if (second || !output.includes("saved run/step-00000005")) return;
      second = heed([...train, "--steps", "3"], { cwd });
      resumed = heed(["train", "--out", "run", "--resume"], { cwd });
      void Promise.all([second, resumed]).then(() => kill("SIGKILL"));
    },
  });
  expect(first).toMatchObject({ signal: "SIGKILL", stderr: "" });
  for (const refused of [await second!, await resumed!]) {
    expect(refused).toMatchObject({ code: 1, stdout: "" });
    expect(refused.stderr).toMatch(
      /^error: run: expected a folder that no other run writes to, got one that process \d+ of .* writes to; if that run has ended, remove run\/lock\n$/,
    );
  }
  expect(readdirSync(path.join(cwd, "run"))).toContain("lock");
  const steps = losses(cwd).map(([step]) => step);
  expect(steps).toEqual(steps.map((_, i) => i + 1));
  const next = await heed(["train", "--out", "run", "--resume", "--steps", `${steps.at(-1)! + 2}`], { cwd });
  expect(next).toMatchObject({ code: 0, stderr: "" });
  expect(readdirSync(path.join(cwd, "run"))).not.toContain("lock");
});

describe("stopping", () => {
  test.for(["SIGINT", "SIGTERM"] as const)(
    "%s finishes the step, saves, says where, exits with 130",
    async (signal) => {
      const { cwd, train } = place();
      let sent = false;
      const { code, stdout, stderr } = await heed([...train, "--steps", "1000000", "--warmup", "1"], {
        cwd,
        watch: (output, kill) => {
          if (sent || !output.includes("step 1 ")) return;
          sent = true;
          kill(signal);
        },
      });
      expect({ code, stderr }).toEqual({ code: 130, stderr: "" });
      expect(stdout).toContain("stopping after this step; press Ctrl-C again to quit at once\n");
      const { state } = await loadCheckpoint(path.join(cwd, "run"));
      const name = `run/step-${String(state.step).padStart(8, "0")}`;
      expect(stdout).toMatch(
        new RegExp(`stopped at step ${state.step}, saved in ${name}; continue with: heed train --out run --resume\n$`),
      );
      expect(
        log(cwd)
          .slice(-2)
          .map(({ type }) => type),
      ).toEqual(["checkpoint", "aborted"]);
      const again = await heedHere(["train", "--out", "run", "--resume", "--steps", String(state.step + 2)], cwd);
      expect(again).toMatchObject({ code: 0, stderr: "" });
    },
  );

  test("a second time quits at once, without saving", async () => {
    const { cwd, train } = place();
    let sent = 0;
    // Steps take long enough for the second signal to arrive within one.
    const long = ["--context", "128", "--width", "128", "--layers", "4", "--batch-size", "8", "--accumulate", "64"];
    const { code, stdout } = await heed([...train, ...long], {
      cwd,
      watch: (output, kill) => {
        if (sent === 0 && output.includes("parameters")) setTimeout(() => kill("SIGINT"), 300 * ++sent);
        if (sent === 1 && output.includes("stopping")) {
          sent++;
          kill("SIGINT");
        }
      },
    });
    expect(code).toBe(130);
    expect(stdout).toMatch(/stopping after this step; press Ctrl-C again to quit at once\n$/);
    expect(readdirSync(path.join(cwd, "run"))).toEqual(["log.jsonl"]);
  });

  test("if nobody reads the output, it stops and saves, too", async () => {
    const { cwd, train } = place();
    const flags = train.map((flag) => `"${flag}"`).join(" ");
    const command = `"${process.execPath}" "${main}" ${flags} --steps 1000000 --eval-every 20 | head -n 3; echo "\${PIPESTATUS[0]}"`;
    const { stdout, stderr } = await execute("bash", ["-c", command], { cwd });
    expect(stderr).toBe("");
    expect(stdout).toMatch(/\n130\n$/);
    expect((await loadCheckpoint(path.join(cwd, "run"))).state.step).toBeGreaterThan(0);
  });
});

const noTerminal = spawnSync("script", ["--version"]).status === 0 ? null : "need `script` (apt-get install bsdutils)";
testUnless(noTerminal)("a terminal gets a bar", async () => {
  const { cwd, train } = place();
  mkdirSync(path.join(cwd, "x"));
  const flags = [...train, "--steps", "400", "--eval-every", "100"].map((flag) => `'${flag}'`).join(" ");
  const command = `"${process.execPath}" "${main}" ${flags}`;
  const { code, stdout } = await execute("script", ["-qec", command, "/dev/null"], { cwd, env: { COLUMNS: "200" } });
  expect(code).toBe(0);
  expect(stdout).toMatch(
    /█+░* \d+% {2}step \d+ {2}loss \d\.\d{3} {2}validation \d\.\d{3} {2}[\d,]+ tokens\/s {2}\d+:\d\d left/,
  );
  expect(stdout).toMatch(/█{4,} 100% {2}step 400 .* left$/m);
  // The line of a bar that wraps could not be drawn again in place.
  // eslint-disable-next-line no-control-regex
  const drawn = [...stdout.matchAll(/\x1b\[1G\x1b\[2K([^\x1b\n]*)/g)].map(([, line]) => line!.trimEnd().length);
  expect(Math.max(...drawn)).toBeLessThan(80);
  expect(stdout).toMatch(/validation loss \d\.\d{4} nats per character/);
});
