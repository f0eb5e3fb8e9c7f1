/** Runs heed in processes of their own, so that a crash, a hang or a leak can be recognised. */
import { spawn } from "node:child_process";
import { pathToFileURL } from "node:url";
import { expect } from "vitest";
import { dist } from "./dist.js";

const index = JSON.stringify(pathToFileURL(dist("index.js")).href);

/**
 * The first lines of every program: they import heed and define `worker(source)`, which starts a thread with the same
 * lines.
 */
const prelude = `
  import * as heed from ${index};
  import { Worker, parentPort, threadId, workerData } from "node:worker_threads";
  import { once } from "node:events";
  const worker = (source, workerData) =>
    new Worker(new URL("data:text/javascript," + encodeURIComponent(prelude + source)), { workerData });
`;
const lines = `const prelude = ${JSON.stringify(prelude)} + "const prelude = '';";\n`;

/** The factor by which all time limits are stretched, for example under sanitizers. */
export const patience = Number(process.env.HEED_TEST_PATIENCE ?? 1);

export interface Ended {
  code: number | null;
  signal: string | null;
  output: string;
  errors: string;
  seconds: number;
}

/**
 * Runs a module and waits for its end; if it takes longer than `limit` seconds, it is killed. `env` is added to the
 * environment, `through` is a command line that starts the process, and `node` is the Node.js that runs it.
 */
export async function runChild(
  program: string,
  limit = 50,
  env: NodeJS.ProcessEnv = {},
  through: readonly string[] = [],
  node = process.execPath,
): Promise<Ended> {
  const started = performance.now();
  const [command, ...args] = [...through, node, "--input-type=module", "-e", prelude + lines + program];
  const child = spawn(command, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
    timeout: limit * patience * 1000,
    killSignal: "SIGKILL",
  });
  let [output, errors] = ["", ""];
  child.stdout.on("data", (data: Buffer) => (output += data.toString()));
  child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve) =>
    child.on("close", (code, signal) => resolve([code, signal])),
  );
  return { code, signal, output, errors, seconds: (performance.now() - started) / 1000 };
}

/** Runs a module, which must end by itself with this exit code and print nothing to stderr. Resolves to its output. */
export async function expectChild(
  program: string,
  code = 0,
  env: NodeJS.ProcessEnv = {},
  through: readonly string[] = [],
  node = process.execPath,
): Promise<string> {
  const ended = await runChild(program, 50, env, through, node);
  expect({ ...ended, seconds: 0 }, "the child process").toMatchObject({ code, signal: null, errors: "" });
  return ended.output.trim();
}
