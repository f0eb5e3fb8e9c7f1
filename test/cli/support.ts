import { spawn } from "node:child_process";
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
