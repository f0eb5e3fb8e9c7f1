/** `heed serve` as a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { onTestFinished } from "vitest";
import { main } from "../cli/support.js";

/** A server that runs. */
export interface Served {
  url: string;
  child: ChildProcess;
  /** Resolves to the value of a metric, or to the sum of those whose names begin so. */
  metric: (name: string) => Promise<number>;
  /** Sends a signal and resolves to the exit code, which is null if the signal has ended the process. */
  end: (signal: NodeJS.Signals) => Promise<number | null>;
}

/** Resolves to a port that nothing listens at, and that the system gives to nobody who asks for any port. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(20_000, 32_000);
    const server = createServer().listen(port, "127.0.0.1");
    const isFree = await Promise.race([
      once(server, "listening").then(() => true),
      once(server, "error").then(() => false),
    ]).catch(() => false);
    await new Promise((resolve) => server.close(resolve));
    if (isFree) return port;
  }
}

/** Starts `heed serve` and resolves when it listens. It is killed after the test. */
export async function startServe(args: readonly string[], port = 0): Promise<Served> {
  const child = spawn(process.execPath, [main, "serve", "--port", String(port), "--log-level", "error", ...args], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const exit = once(child, "exit") as Promise<[number | null]>;
  const url = await new Promise<string>((resolve, reject) => {
    let said = "";
    child.stderr.on("data", (data: Buffer) => {
      said += data.toString();
      const url = /^Serving .* at (http\S+)\n/m.exec(said)?.[1];
      if (url) resolve(url);
    });
    void exit.then(() => reject(new Error(`heed serve has ended: ${said}`)));
  });
  const metric = async (name: string): Promise<number> => {
    const lines = (await (await fetch(`${url}/metrics`)).text()).split("\n");
    const values = lines.filter((line) => line.startsWith(name)).map((line) => Number(line.split(" ").at(-1)));
    return values.reduce((sum, value) => sum + value, 0);
  };
  const end = async (signal: NodeJS.Signals): Promise<number | null> => {
    child.kill(signal);
    return (await exit)[0];
  };
  return { url, child, metric, end };
}
