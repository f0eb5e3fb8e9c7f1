import { Command, Option } from "commander";
import { integer, number, repeatable, text } from "./arguments.js";
import { inferenceOptions } from "./inference-options.js";
import type { ServeFlags } from "./serve-flags.js";

export function serveCommand(): Command {
  const command = new Command("serve").description("Serve models over OpenAI's HTTP interface.");
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
    .action(async (flags: ServeFlags) => (await import("./serve.js")).run(flags));
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
