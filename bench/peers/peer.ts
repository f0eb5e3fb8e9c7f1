// A peer is another engine in a process of its own. It is asked one thing at a time, by a line of JSON each way:
//
//   → (at its start)                     ← { version, cases: { NAME: [DTYPE, …], … } }
//   → { action: "prepare", case, … }     ← { result, memory }, once the case is ready, checked and has run
//   → { action: "time", seconds, least } ← { times: milliseconds of each run }
//   → { action: "release" }              ← {}
//
// or { error } instead. A peer does nothing between its answers, so that the other contenders have the machine.
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Case } from "../case.js";

/** Memory of a case, in bytes. */
export interface Memory {
  /** Memory of everything that the case made. */
  whole: number;
  /** Memory that a run took beside what was prepared. */
  step: number;
}

export interface PrepareRequest {
  case: Case["peer"];
  dtype: string;
  device: string;
  threads: number;
  /** True to measure memory. */
  memory: boolean;
}

export interface PrepareAnswer {
  /** Result of the case, if the case can check one: tokens, or some numbers. */
  result: number[] | null;
  memory: Memory | null;
}

export interface Hello {
  version: string;
  cases: Record<string, readonly string[]>;
}

export class Peer {
  private constructor(
    readonly name: string,
    private readonly hello: Hello,
    private readonly child: ChildProcess,
    private readonly lines: AsyncIterator<string>,
  ) {}

  get version(): string {
    return this.hello.version;
  }

  /** Starts a peer with variables added to its environment. Throws with the reason if it does not start. */
  static async start(
    name: string,
    program: string,
    args: readonly string[],
    environment: Record<string, string>,
  ): Promise<Peer> {
    const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, ...environment } });
    const failed = new Promise<string>((resolve) => child.once("error", (error) => resolve(error.message)));
    let complaint = "";
    child.stderr.on("data", (chunk: Buffer) => (complaint = (complaint + chunk.toString()).slice(-4000)));
    child.stdin.on("error", () => undefined); // when the peer has ended, reading shows it
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const first = await Promise.race([lines.next(), failed]);
    if (typeof first === "string") throw new Error(first);
    if (first.done) throw new Error(reasonIn(complaint) ?? "it ended before it answered");
    return new Peer(name, JSON.parse(first.value) as Hello, child, lines);
  }

  has({ peer, peers, dtype, format = dtype }: Case): boolean {
    const known = this.hello.cases[peer.name as string]?.includes(format) ?? false;
    return known && (!peers || peers.includes(this.name));
  }

  async prepare({ peer, dtype, format = dtype, device, memory }: Case, threads: number): Promise<PrepareAnswer> {
    const request: PrepareRequest = { case: peer, dtype: format, device, threads, memory: memory !== undefined };
    return this.#ask({ action: "prepare", ...request });
  }

  /** Returns the milliseconds of at least `least` runs, and of as many as last `seconds`, after one that is not timed. */
  async time(seconds: number, least: number): Promise<number[]> {
    return (await this.#ask<{ times: number[] }>({ action: "time", seconds, least })).times;
  }

  async release(): Promise<void> {
    await this.#ask({ action: "release" });
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.stdin!.end();
    await ended;
  }

  async #ask<Answer>(request: object): Promise<Answer> {
    this.child.stdin!.write(`${JSON.stringify(request)}\n`);
    const line = await this.lines.next();
    if (line.done) throw new Error(`${this.name} ended before it answered`);
    const answer = JSON.parse(line.value) as Answer | { error: string };
    if (typeof answer === "object" && answer !== null && "error" in answer) throw new Error(answer.error);
    return answer;
  }
}

/** Returns the line of a program's standard error that says most: the last with "error" in it, or the last. */
function reasonIn(complaint: string): string | undefined {
  const lines = complaint.split("\n").filter((line) => line.trim() !== "");
  return lines.findLast((line) => /error/i.test(line))?.trim() ?? lines.at(-1);
}
