import { text } from "node:stream/consumers";
import { setThreads } from "../device.js";
import { HeedError } from "../errors.js";
import { generate } from "../generate/generate-text.js";
import { loadModel } from "../train/checkpoint.js";
import type { GenerateFlags } from "./generate-command.js";
import { print } from "./output.js";

/** Prints a text while it is generated. */
export async function run(prompt: string | undefined, flags: GenerateFlags): Promise<void> {
  const { model: folder, threads, device, dtype, ...options } = flags;
  if (threads !== undefined) setThreads(threads);
  const { model, tokenizer } = await loadModel(folder, { device, dtype });
  if (!tokenizer) throw new HeedError("ERR_FORMAT", `${folder}: expected a model with a tokenizer, found none`);
  const given = prompt === "-" ? await text(process.stdin) : prompt;
  // Without a prompt, a text begins after an end of text or, where the vocabulary has none, after a line.
  const start = given ?? (tokenizer.endOfText === null ? "\n" : "");
  const pieces = generate(model, tokenizer, start, {
    ...options,
    echo: options.echo && given !== undefined,
  });
  for await (const piece of pieces) await print(piece);
  if (process.stdout.isTTY) await print("\n");
}
