import { spawn } from "node:child_process";
import { format } from "node:util";
import { report } from "../../lib/cli/failure.js";
import { createProgram } from "../../lib/cli/program.js";
import { dist } from "../support/dist.js";

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  input?: string;
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** Gets the output so far whenever there is more, and may send signals. */
  watch?: (stdout: string, kill: (signal: NodeJS.Signals) => void) => void;
}

export const main = dist("cli/main.js");

/** Runs a program to its end. */
export function execute(command: string, args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const { input = "", env = {}, cwd, watch } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: "pipe" });
    const output = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const)
      child[name].on("data", (data: Buffer) => {
        output[name] += data.toString();
        if (name === "stdout") watch?.(output.stdout, (signal) => child.kill(signal));
      });
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, ...output }));
    // A program may end before it has read its input.
    child.stdin.on("error", () => undefined).end(input);
  });
}

/** Runs heed to its end. */
export function heed(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  return execute(process.execPath, [main, ...args], options);
}

/**
 * Runs heed to its end in this process, which takes a tenth of the time for a command that does little. Nothing else may
 * write, or change the current folder, meanwhile.
 */
export async function heedHere(args: readonly string[], cwd = process.cwd()): Promise<Ended> {
  const output = { stdout: "", stderr: "" };
  const { stdout, stderr } = process;
  // eslint-disable-next-line @typescript-eslint/unbound-method -- they are put back as they were
  const used = { out: stdout.write, error: stderr.write, log: console.log, cwd: process.cwd(), code: process.exitCode };
  const capture = (name: keyof typeof output) => (data: string | Uint8Array) => {
    output[name] += typeof data === "string" ? data : Buffer.from(data).toString();
    return true;
  };
  stdout.write = capture("stdout");
  stderr.write = capture("stderr");
  console.log = (...parts) => void capture("stdout")(`${format(...parts)}\n`);
  process.chdir(cwd);
  process.exitCode = undefined;
  try {
    await (await createProgram(args)).parseAsync(args, { from: "user" });
    return { code: Number(process.exitCode ?? 0), signal: null, ...output };
  } catch (error) {
    return { code: report(error), signal: null, ...output };
  } finally {
    stdout.write = used.out;
    stderr.write = used.error;
    console.log = used.log;
    process.chdir(used.cwd);
    process.exitCode = used.code;
  }
}
