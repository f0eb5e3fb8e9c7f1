// Worker thread that encodes blocks (encode-pool.ts).
import { workerData } from "node:worker_threads";
import { tokenizerFromJSON } from "../tokenizer/from-json.js";
import { carryOut } from "../util/worker-thread.js";
import type { Block } from "./blocks.js";
import { BlockEncoder, type EncodingSettings } from "./encode-block.js";

const { tokenizer: json, settings } = workerData as { tokenizer: unknown; settings: EncodingSettings };
// Not awaited here: V8 ends the process if a thread is terminated while it begins a module with a top-level await.
const encoder = tokenizerFromJSON(json).then((tokenizer) => new BlockEncoder(tokenizer, settings));

carryOut(
  async (block: Block) => (await encoder).encode(block),
  ({ ids, mask, ends }) => [ids, mask, ends].flatMap((part) => (part ? [part.buffer as ArrayBuffer] : [])),
);
