import path from "node:path";
import { once } from "node:events";
import { setThreads } from "../device.js";
import { HeedError } from "../errors.js";
import { readTextFile } from "../files.js";
import type { EmbeddingModel } from "../load/embedding-model.js";
import type { LanguageModel } from "../load/language-model.js";
import { load } from "../load/load.js";
import type { CreateServerOptions } from "../server/app.js";
import { UsageError, usageOf } from "./failure.js";
import { quantizedTypes } from "./inference-options.js";
import { Interrupt } from "./interrupt.js";
import { complain } from "./output.js";
import type { ServeFlags } from "./serve-flags.js";

/** Runs `heed serve` until a signal stops it. */
export async function run(flags: ServeFlags): Promise<void> {
  const { host, port, threads } = flags;
  const names = namesOf(flags);
  const server = await serverModule();
  const options = await optionsOf(flags, server.readApiKeys);
  if (threads !== undefined) setThreads(threads);
  using interrupt = new Interrupt(() => complain("Shutting down: waiting for the requests that run."));
  const models = await loadAll(names, flags);
  try {
    const app = await server.createServer({ models, ...options }).catch((cause: unknown) => {
      throw usageOf(cause);
    });
    const url = await app.listen({ host, port });
    complain(`Serving ${[...names.keys()].join(", ")} at ${url}`);
    if (!interrupt.signal.aborted) await once(interrupt.signal, "abort");
    await app.close();
  } finally {
    for (const model of Object.values(models)) model.dispose();
  }
}

/** Resolves to the options of the server, with the content of the files that the flags name. */
async function optionsOf(
  flags: ServeFlags,
  readApiKeys: (file: string) => Promise<string[]>,
): Promise<Omit<CreateServerOptions, "models">> {
  const { apiKeys, tlsCert, tlsKey, logLevel, maxSequences, maxQueue, bodyLimit, drainSeconds } = flags;
  if ((tlsCert === undefined) !== (tlsKey === undefined))
    throw new UsageError("--tls-cert: expected it together with --tls-key, got one of them");
  return {
    engine: { ...(maxSequences && { maxSequences }), ...(maxQueue !== undefined && { maxQueue }) },
    maxTokens: flags.maxTokens,
    requestsPerMinute: flags.requestsPerMinute,
    corsOrigins: flags.corsOrigin ?? [],
    apiKeys: apiKeys === undefined ? null : await readApiKeys(apiKeys),
    tls: tlsCert === undefined ? null : { cert: await readTextFile(tlsCert), key: await readTextFile(tlsKey!) },
    ...(bodyLimit !== undefined && { bodyLimit }),
    ...(drainSeconds !== undefined && { drainSeconds }),
    logger: logLevel === "silent" ? false : { level: logLevel },
  };
}

/** Returns the sources of the models, by the names that clients give. */
function namesOf({ model, name = [] }: ServeFlags): Map<string, string> {
  if (name.length > 0 && name.length !== model.length)
    throw new UsageError(`--name: expected one for each of ${model.length} models, got ${name.length}`);
  const names = new Map(model.map((source, i) => [name[i] ?? nameOf(source), source]));
  if (names.size < model.length)
    throw new UsageError(
      `--name: expected different names, got ${model.map((m, i) => name[i] ?? nameOf(m)).join(", ")}`,
    );
  return names;
}

/** Returns the last part of a source, without the extension of a model's file. */
function nameOf(source: string): string {
  return path.basename(source.replace(/^hf:/, "")).replace(/\.(gguf|bin)$/, "");
}

async function loadAll(
  names: ReadonlyMap<string, string>,
  { device, dtype, quantize }: ServeFlags,
): Promise<Record<string, LanguageModel | EmbeddingModel>> {
  const models: Record<string, LanguageModel | EmbeddingModel> = {};
  for (const [name, source] of names) {
    const model = await load(source, { device, dtype, ...(quantize && { quantize: quantizedTypes[quantize] }) });
    if (model.kind === "encoder-decoder")
      throw new UsageError(`--model: expected a model that generates or embeds, got a translator: ${source}`);
    models[name] = model;
  }
  return models;
}

/** Loads the server, whose packages are optional. */
async function serverModule(): Promise<typeof import("../server/index.js")> {
  try {
    return await import("../server/index.js");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw cause;
    const missing = "npm install fastify ajv @fastify/cors @fastify/rate-limit @fastify/swagger prom-client";
    throw new HeedError("ERR_IO", `serve: expected the packages of the server to be installed; run ${missing}`, {
      cause,
    });
  }
}
