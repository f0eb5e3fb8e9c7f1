// The peers, by the names that --peers takes.
import { fileURLToPath } from "node:url";
import { compiled, eager } from "../row.js";
import { install } from "./install.js";
import { llamaEnvironment } from "./llama-environment.js";
import { Peer } from "./peer.js";

interface Kind {
  name: string;
  /** Returns the program and its arguments. Throws with the reason if there is none. */
  command: (threads: number) => [string, string[]];
  /** Variables of its environment beside those of this process. @default none */
  environment?: Record<string, string>;
}

function python(mode: "eager" | "compiled"): [string, string[]] {
  const program = process.env.HEED_TORCH_PYTHON;
  if (!program) throw new Error("HEED_TORCH_PYTHON does not name a Python that has PyTorch");
  // The script is in bench/peers, and this file when compiled in build/bench/peers.
  return [program, [fileURLToPath(new URL("../../../bench/peers/torch_peer.py", import.meta.url)), mode]];
}

function node(script: string, threads: number): [string, string[]] {
  const problem = install();
  if (problem) throw new Error(problem);
  return [process.execPath, [fileURLToPath(new URL(script, import.meta.url)), String(threads)]];
}

const kinds: Record<string, readonly Kind[]> = {
  torch: [
    { name: eager, command: () => python("eager") },
    { name: compiled, command: () => python("compiled") },
  ],
  ort: [{ name: "ONNX Runtime", command: (threads) => node("ort.js", threads) }],
  tfjs: [{ name: "TensorFlow.js", command: (threads) => node("tfjs.js", threads) }],
  llama: [{ name: "llama.cpp", command: (threads) => node("llama.js", threads), environment: llamaEnvironment }],
};

/** Starts the peers of a list such as "torch,ort" or "all". Returns those that run, and why the others do not. */
export async function startPeers(
  list: string,
  threads: number,
): Promise<{ running: Peer[]; missing: Record<string, string> }> {
  const wanted = list === "all" ? Object.keys(kinds) : list.split(",").filter((name) => name !== "");
  const unknown = wanted.find((name) => !Object.hasOwn(kinds, name));
  if (unknown) throw new Error(`--peers: expected ${Object.keys(kinds).join(", ")} or all, got ${unknown}`);
  const running: Peer[] = [];
  const missing: Record<string, string> = {};
  for (const { name, command, environment = {} } of wanted.flatMap((kind) => kinds[kind]!))
    try {
      running.push(await Peer.start(name, ...command(threads), environment));
    } catch (error) {
      missing[name] = (error as Error).message;
    }
  return { running, missing };
}
