import { once } from "node:events";
import { readTextFile } from "../util/files.js";
import { readApiKeys } from "../server/api-keys.js";
import { createServer, type CreateServerOptions } from "../server/app.js";
import { exposedWarning, isExposed } from "../server/exposure.js";
import type { ServedSummary } from "../server/served-models.js";
import { chosenLine } from "./chosen.js";
import { UsageError, usageOf } from "./failure.js";
import { engineOptions } from "./inference-options.js";
import { Interrupt } from "./interrupt.js";
import { complain } from "./output.js";
import type { ServeFlags } from "./serve-flags.js";
import { loadServed, servedAdapters, servedNames } from "./served-models.js";

/** Runs `heed serve` until a signal stops it. */
export async function run(flags: ServeFlags): Promise<void> {
  const { host, port } = flags;
  const names = servedNames(flags);
  const options = await optionsOf(flags);
  using interrupt = new Interrupt(() => complain("Shutting down: waiting for the requests that run."));
  const models = await loadServed(names, flags);
  try {
    const onModels = (chosen: readonly ServedSummary[]): void => chosen.map(chosenLine).forEach(complain);
    const app = await createServer({ models, ...options, onModels }).catch((cause: unknown) => {
      throw usageOf(cause);
    });
    const url = await app.listen({ host, port });
    const adapters = servedAdapters(flags, new Set(names.keys())).map(({ name }) => name);
    complain(`Serving ${[...names.keys(), ...adapters].join(", ")} at ${url}`);
    if (options.apiKeys === null && isExposed(app)) complain(`Warning: ${exposedWarning}`);
    if (!interrupt.signal.aborted) await once(interrupt.signal, "abort");
    await app.close();
  } finally {
    for (const model of Object.values(models)) model.dispose();
  }
}

/** Resolves to the options of the server, with the content of the files that the flags name. */
async function optionsOf(flags: ServeFlags): Promise<Omit<CreateServerOptions, "models">> {
  const { apiKeys, tlsCert, tlsKey, logLevel, maxSequences, maxStepTime, maxQueue } = flags;
  const { bodyLimit, drainSeconds, sendSeconds, maxConnections, trustProxy = false } = flags;
  if ((tlsCert === undefined) !== (tlsKey === undefined))
    throw new UsageError("--tls-cert: expected it together with --tls-key, got one of them");
  return {
    engine: {
      ...(maxSequences && { maxSequences }),
      ...(maxQueue !== undefined && { maxQueue }),
      ...(maxStepTime !== undefined && { maxStepTime }),
      ...engineOptions(flags),
    },
    maxTokens: flags.maxTokens,
    sharePrefixCache: flags.sharePrefixCache ?? false,
    requestsPerMinute: flags.requestsPerMinute,
    corsOrigins: flags.corsOrigin ?? [],
    rawControlTokens: flags.rawControlTokens ?? false,
    strict: flags.strict ?? false,
    storedResponses: flags.storedResponses,
    truncate: flags.truncate ?? false,
    playground: flags.playground,
    apiKeys: apiKeys === undefined ? null : await readApiKeys(apiKeys),
    tls: tlsCert === undefined ? null : { cert: await readTextFile(tlsCert), key: await readTextFile(tlsKey!) },
    // A name that stands for an address of this machine is one of the server's own.
    allowedHosts: [...(flags.allowedHost ?? []), ...(/^[a-z][\w.-]*$/i.test(flags.host) ? [flags.host] : [])],
    trustProxy: typeof trustProxy === "string" && /^\d+$/.test(trustProxy) ? Number(trustProxy) : trustProxy,
    ...(sendSeconds !== undefined && { sendSeconds }),
    ...(maxConnections !== undefined && { maxConnections }),
    ...(bodyLimit !== undefined && { bodyLimit }),
    ...(drainSeconds !== undefined && { drainSeconds }),
    logger: logLevel === "silent" ? false : { level: logLevel },
  };
}
