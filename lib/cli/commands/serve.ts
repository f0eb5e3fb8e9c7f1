import { type Command, Option } from "commander";
import { once } from "node:events";
import { readApiKeys } from "../../server/api-keys.js";
import { createServer, type CreateServerOptions } from "../../server/app.js";
import { exposedWarning, isExposed } from "../../server/exposure.js";
import type { ServedSummary } from "../../server/served-models.js";
import { readTextFile } from "../../util/files.js";
import { integer, number, repeatable, text } from "../arguments.js";
import { chosenLine } from "../chosen.js";
import { UsageError, usageOf } from "../failure.js";
import { type EngineFlags, engineOptions, inferenceOptions } from "../inference-options.js";
import { Interrupt } from "../interrupt.js";
import { complain } from "../output.js";
import { loadServed, servedAdapters, type ServedFlags, servedNames } from "../named-models.js";

/** The flags of `heed serve`. */
interface ServeFlags extends ServedFlags, EngineFlags {
  host: string;
  port: number;
  maxTokens?: number;
  maxQueue?: number;
  maxSequences?: number;
  maxStepTime?: number;
  apiKeys?: string;
  sharePrefixCache?: boolean;
  requestsPerMinute?: number;
  sendSeconds?: number;
  maxConnections?: number;
  trustProxy?: true | string;
  allowedHost?: string[];
  corsOrigin?: string[];
  bodyLimit?: number;
  drainSeconds?: number;
  tlsCert?: string;
  tlsKey?: string;
  rawControlTokens?: boolean;
  strict?: boolean;
  storedResponses: number;
  truncate?: boolean;
  playground: boolean;
  logLevel: string;
}

/** Adds the arguments and the options of `heed serve`. */
export function define(command: Command): Command {
  for (const add of [addModels, addAddress, addClients, addEngine, addOperation]) add(command);
  return command
    .addHelpText(
      "after",
      `
Examples:
  $ heed serve --model runs/book --port 8080
  $ heed serve --model Qwen/Qwen3-0.6B --quantize int8 --name qwen
  $ heed serve --model Qwen/Qwen3-0.6B --context 8192 --kv-memory 2GiB
  $ heed serve --model runs/book --adapter polite=adapters/polite --adapter brief=adapters/brief
  $ heed serve --model runs/book --host 0.0.0.0 --api-keys keys.txt --requests-per-minute 60
  $ curl http://127.0.0.1:8080/v1/models

A browser finds a page to try the models at http://127.0.0.1:8080/.`,
    )
    .action(run);
}

/** Adds the options about the models and how they compute. */
function addModels(command: Command): void {
  command
    .optionsGroup("Models:")
    .requiredOption("--model <name>", "as in heed generate, or an encoder; may be given several times", repeatable)
    .option(
      "--name <name>",
      "name by which clients choose the model; given once for each --model (default: the last part of its path)",
      repeatable,
    )
    .option(
      "--adapter <name=folder>",
      "adapter in PEFT's layout that clients choose as a model of this name; may be given several times; of several models, model:name=folder says whose it is (default: the first)",
      repeatable,
    )
    .addOption(inferenceOptions.dtype)
    .addOption(inferenceOptions.quantize)
    .addOption(inferenceOptions.activations)
    .addOption(inferenceOptions.device)
    .addOption(inferenceOptions.threads);
}

/** Adds the options about where the server listens, and to whom. */
function addAddress(command: Command): void {
  command
    .optionsGroup("Address:")
    .option("--host <address>", "address to listen at", text, "127.0.0.1")
    .option("--port <n>", "port to listen at; 0 takes a free one", integer(0, 65535), 8080)
    .option("--tls-cert <file>", "certificate in PEM, to speak HTTPS", text)
    .option("--tls-key <file>", "key of the certificate, in PEM", text)
    .option(
      "--allowed-host <name>",
      "name by which a server without API keys may be asked at a loopback address, besides localhost and IP addresses; may be given several times; * allows all",
      repeatable,
    )
    .option("--cors-origin <origin>", "origin whose pages may ask; may be given several times", repeatable)
    .option(
      "--trust-proxy [proxies]",
      "believe the header X-Forwarded-For of one proxy, of a number of them, or of these addresses, with commas between",
    )
    .option("--no-playground", "serve no page to try the models at /");
}

/** Adds the options about what clients may do. */
function addClients(command: Command): void {
  command
    .optionsGroup("Clients:")
    .option("--api-keys <file>", "file with API keys, one a line, of which clients must give one", text)
    .option(
      "--share-prefix-cache",
      "let requests with different API keys share cached beginnings of prompts, by whose speed clients can learn of each other's prompts",
    )
    .option(
      "--requests-per-minute <n>",
      "most requests in a minute for each API key, or for each address without keys (default: no limit)",
      integer(1),
    )
    .option("--max-connections <n>", "most connections at the same time (default: 1024)", integer(1))
    .option("--body-limit <n>", "most bytes of a request's body (default: 4 MiB)", integer(1))
    .option(
      "--send-seconds <x>",
      "time for which a client may take nothing of its answer; 0 is forever (default: 60)",
      number(0, 86_400),
    )
    .option(
      "--raw-control-tokens",
      "let messages and tools name control tokens such as <|im_end|>: only for clients that may speak for the system",
    )
    .option(
      "--strict",
      "refuse fields of requests that heed does not know, instead of ignoring them with the header x-heed-ignored",
    )
    .option("--truncate", "cut texts to embed, rank or classify that are too long, instead of refusing them");
}

/** Adds the options about how many answers run, and with how much memory. */
function addEngine(command: Command): void {
  command
    .optionsGroup("Answers:")
    .option("--max-tokens <n>", "most tokens that a request may ask for (default: the context)", integer(1))
    .option("--max-sequences <n>", "most answers that run at the same time (default: 64)", integer(1))
    .option("--max-queue <n>", "most answers that wait; further ones are refused (default: 1024)", integer(0))
    .option(
      "--max-step-time <ms>",
      "time that a step should take at most, in milliseconds, so that long prompts do not hold up the others (default: 250)",
      number(0, 1e6),
    )
    .addOption(inferenceOptions.context)
    .addOption(inferenceOptions.kvMemory)
    .addOption(inferenceOptions.kvType)
    .option(
      "--stored-responses <n>",
      "responses of /v1/responses that are kept in memory, from which others can go on; 0 keeps none",
      integer(0),
      256,
    );
}

/** Adds the options about the log and the end. */
function addOperation(command: Command): void {
  command
    .optionsGroup("Operation:")
    .addOption(
      new Option("--log-level <level>", "least important level of the lines of the log, which goes to stdout")
        .choices(["fatal", "error", "warn", "info", "debug", "silent"])
        .default("info"),
    )
    .option("--drain-seconds <x>", "time that requests have to finish after a signal (default: 30)", number(0, 86_400));
}

/** Runs `heed serve` until a signal stops it. */
async function run(flags: ServeFlags): Promise<void> {
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
