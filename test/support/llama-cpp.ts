/**
 * Uses llama.cpp as an independent reader of the GGUF files that heed writes. Each request runs in a process of its
 * own. The package has binaries for Linux on x64 only.
 */
import { fork } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const child = fileURLToPath(new URL("llama-cpp-child.mjs", import.meta.url));
const binaries = fileURLToPath(new URL("../../node_modules/@node-llama-cpp/linux-x64", import.meta.url));

/** Why there is no llama.cpp; null if there is. */
export const noLlamaCpp = existsSync(binaries) ? null : "need llama.cpp (npm ci installs it on Linux, x64)";

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
  /** True if llama.cpp itself adds the beginning of a text; `ended` says the same of its end. */
  begins: boolean;
  ended: boolean;
  bos: number;
  eos: number;
  /** Flag of each token of `ends`: true if it ends a generation. */
  ends: boolean[];
}

/** Returns llama.cpp's knowledge of a file's vocabulary. Rejects with its log if it cannot load the file. */
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

/**
 * Returns the ids of each text without the tokens that begin and end a text. Names of special tokens are recognised if
 * `special` is true.
 */
export async function llamaTokenize(file: string, texts: readonly string[], special = false): Promise<number[][]> {
  return (await llamaVocabulary(file, { texts, special })).tokens;
}

/**
 * Returns the logarithms of the probabilities of all tokens after each of `ids`: [ids.length, vocabulary]. They are the
 * logits minus a number for each row. Rejects with llama.cpp's log if it cannot load the file.
 */
export async function llamaLogProbabilities(file: string, ids: readonly number[]): Promise<number[][]> {
  return (await ask({ file, vocabOnly: false, ids })).rows;
}

async function ask(request: Request): Promise<Answer> {
  // Vitest's own arguments for Node.js must not be passed to the child.
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
