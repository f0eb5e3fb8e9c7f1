/**
 * llama.cpp as an independent reader of the GGUF files that heed writes. Each request runs in a process of its own. Where
 * the package is not installed (it has binaries for Linux on x64 alone) tests that need it are skipped, and say so.
 */
import { fork } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const child = fileURLToPath(new URL("llama-cpp-child.mjs", import.meta.url));
const binaries = fileURLToPath(new URL("../../node_modules/@node-llama-cpp/linux-x64", import.meta.url));

/** Whether there is a llama.cpp for this machine: `test.skipIf(!hasLlamaCpp)`. */
export const hasLlamaCpp = existsSync(binaries);
if (!hasLlamaCpp) console.warn("skipped: llama.cpp is not installed (npm ci installs it on Linux, x64)");

interface Request {
  file: string;
  vocabOnly: boolean;
  texts?: readonly string[];
  special?: boolean;
  decode?: readonly ArrayLike<number>[];
  ids?: readonly number[];
  ends?: readonly number[];
}

interface Answer {
  tokens: number[][];
  decoded: string[];
  rows: number[][];
  /** Whether llama.cpp itself puts the beginning of a text before it, and the end after it. */
  begins: boolean;
  ended: boolean;
  bos: number;
  eos: number;
  /** Of `ends`: which of these tokens end a generation. */
  ends: boolean[];
}

/** What llama.cpp knows of a file's vocabulary. Rejects with its log where the file does not load. */
export async function llamaVocabulary(
  file: string,
  request: {
    texts?: readonly string[];
    special?: boolean;
    decode?: readonly ArrayLike<number>[];
    ends?: number[];
  } = {},
): Promise<Answer> {
  return ask({ special: false, ...request, file, vocabOnly: true });
}

/** The ids of each text, without what begins and ends a text; names of special tokens are found with `special`. */
export async function llamaTokenize(file: string, texts: readonly string[], special = false): Promise<number[][]> {
  return (await llamaVocabulary(file, { texts, special })).tokens;
}

/**
 * After each of `ids`, the logarithm of every token's probability: [ids.length, vocabulary]. That is the logits, less a
 * number for each row. Rejects with llama.cpp's log where the file does not load.
 */
export async function llamaLogProbabilities(file: string, ids: readonly number[]): Promise<number[][]> {
  return (await ask({ file, vocabOnly: false, ids })).rows;
}

async function ask(request: Request): Promise<Answer> {
  // Vitest's own arguments for Node are none of the child's.
  const running = fork(child, { execArgv: [], serialization: "advanced", stdio: ["ignore", "ignore", "pipe", "ipc"] });
  let errors = "";
  running.stderr!.on("data", (data: Buffer) => (errors += data.toString()));
  let reply: { answer?: Answer; failure?: string } = {};
  running.on("message", (message) => (reply = message as typeof reply));
  running.send({ ...request, decode: request.decode?.map((ids) => Array.from(ids)) });
  const code = await new Promise<number | string | null>((resolve) =>
    running.on("close", (code, signal) => resolve(code ?? signal)),
  );
  if (reply.answer) return reply.answer;
  throw new Error(`llama.cpp: ${reply.failure ?? `ended with ${code}: ${errors.slice(-500)}`}`);
}
