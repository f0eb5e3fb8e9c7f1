/** A model on a hub of this machine, and a cache of its own for every test. */
import path from "node:path";
import { beforeEach } from "vitest";
import { pretrainedFolder } from "../../lib/hub/pretrained-folder.js";
import type { PretrainedOptions } from "../../lib/hub/pretrained-options.js";
import { temporaryFolder } from "../support/folder.js";
import { HubServer } from "./server.js";

/** The weights of the model. */
export const weights = Buffer.from(Uint8Array.from({ length: 300_000 }, (_, i) => (i * 7) ^ (i >> 8)));
export const config = Buffer.from('{"model_type": "llama"}');

export const startHub = () =>
  HubServer.start({
    "config.json": { content: config },
    "model.safetensors": { content: weights, large: true },
    "README.md": { content: Buffer.from("not wanted") },
    "onnx/model.onnx": { content: Buffer.from("not wanted") },
  });

export let cacheDir = "";
beforeEach(() => {
  cacheDir = temporaryFolder();
});

export const fetchFrom = (hub: HubServer, options: PretrainedOptions = {}) =>
  pretrainedFolder("owner/tiny", { hubUrl: hub.url, cacheDir, offline: false, ...options });

/** Returns the model's folder in the cache, or a path in it. */
export const inCache = (...parts: string[]) => path.join(cacheDir, "models--owner--tiny", ...parts);
