import { type ChildProcess, spawn } from "node:child_process";
import { createInterface, type Interface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Case } from "./case.js";

/** PyTorch in a process of its own, asked to time one case at a time (torch_peer.py). */
export class TorchPeer {
  private constructor(
    readonly version: string,
    private readonly child: ChildProcess,
    private readonly lines: AsyncIterator<string>,
    private readonly reader: Interface,
  ) {}

  static async start(threads: number): Promise<TorchPeer> {
    const python = process.env.HEED_TORCH_PYTHON;
    if (!python) throw new Error("--torch: expected HEED_TORCH_PYTHON to name a Python that has PyTorch");
    // The script stays in bench/; the compiled caller is in build/bench.
    const script = fileURLToPath(new URL("../../bench/torch_peer.py", import.meta.url));
    const child = spawn(python, [script, String(threads)], { stdio: ["pipe", "pipe", "inherit"] });
    const reader = createInterface({ input: child.stdout });
    const lines = reader[Symbol.asyncIterator]();
    const first = await lines.next();
    if (first.done) throw new Error(`--torch: ${python} ended before it answered`);
    return new TorchPeer(first.value, child, lines, reader);
  }

  /** Milliseconds of each run of a case's twin within `seconds`. */
  async time({ peer, device, dtype }: Case, seconds: number): Promise<number[]> {
    this.child.stdin!.write(`${JSON.stringify({ ...peer, device, dtype, seconds })}\n`);
    const answer = await this.lines.next();
    if (answer.done) throw new Error("--torch: PyTorch ended before it answered");
    return JSON.parse(answer.value) as number[];
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.stdin!.end();
    await ended;
    this.reader.close();
  }
}
