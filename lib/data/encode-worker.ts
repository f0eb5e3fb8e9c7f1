// Worker thread that encodes blocks (encode-pool.ts).
import { workerData } from "node:worker_threads";
import { tokenizerFromJSON } from "../tokenizer/from-json.js";
import { carryOut } from "../worker-thread.js";
import type { Block } from "./blocks.js";
import { BlockEncoder, type EncodingSettings } from "./encode-block.js";

const { tokenizer: json, settings } = workerData as { tokenizer: unknown; settings: EncodingSettings };
const encoder = new BlockEncoder(await tokenizerFromJSON(json), settings);

carryOut(
  (block: Block) => encoder.encode(block),
  ({ ids, mask, ends }) => [ids, mask, ends].flatMap((part) => (part ? [part.buffer as ArrayBuffer] : [])),
);
