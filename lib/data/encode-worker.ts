// Worker thread that encodes blocks (encode-pool.ts).
import { parentPort, workerData } from "node:worker_threads";
import { HeedError } from "../errors.js";
import { tokenizerFromJSON } from "../tokenizer/from-json.js";
import type { Block } from "./blocks.js";
import { BlockEncoder, type EncodingSettings } from "./encode-block.js";
import type { EncodeAnswer } from "./encode-pool.js";

const { tokenizer: json, settings } = workerData as { tokenizer: unknown; settings: EncodingSettings };
const encoder = new BlockEncoder(await tokenizerFromJSON(json), settings);

parentPort!.on("message", ({ id, block }: { id: number; block: Block }) => {
  encoder.encode(block).then(
    (encoded) => {
      const answer: EncodeAnswer = { id, encoded };
      const buffers = [encoded.ids, encoded.mask, encoded.ends].flatMap((part) => (part ? [part.buffer] : []));
      parentPort!.postMessage(answer, buffers as ArrayBuffer[]);
    },
    (error: unknown) => {
      const code = error instanceof HeedError ? error.code : "ERR_INTERNAL";
      const answer: EncodeAnswer = { id, code, message: (error as Error).message };
      parentPort!.postMessage(answer);
    },
  );
});
