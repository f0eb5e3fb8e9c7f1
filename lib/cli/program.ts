import { Command } from "commander";
import { batchCommand } from "./batch-command.js";
import { convertCommand } from "./convert-command.js";
import { dataCommand } from "./data-command.js";
import { evalCommand } from "./eval-command.js";
import { generateCommand } from "./generate-command.js";
import { infoCommand } from "./info-command.js";
import { inspectCommand } from "./inspect-command.js";
import { mergeCommand } from "./merge-command.js";
import { quantizeCommand } from "./quantize-command.js";
import { reportCommand } from "./report-command.js";
import { trainCommand } from "./train-command.js";
import { serveCommand } from "./serve-command.js";
import { translateCommand } from "./translate-command.js";
import { version } from "../util/version.js";

/** Returns the command line. Each command loads the native addon only when it runs and needs it. */
export function createProgram(): Command {
  const program = new Command("heed")
    .description("Train and use transformers.")
    .version(version())
    .addHelpText(
      "after",
      `
Examples:
  $ heed train --data book.txt --out runs/book
  $ heed generate --model runs/book "Once upon a time"
  $ heed info`,
    );
  for (const command of [
    trainCommand(),
    dataCommand(),
    reportCommand(),
    evalCommand(),
    generateCommand(),
    serveCommand(),
    batchCommand(),
    translateCommand(),
    convertCommand(),
    quantizeCommand(),
    mergeCommand(),
    inspectCommand(),
    infoCommand(),
  ])
    program.addCommand(command);
  for (const command of [program, ...program.commands])
    command.exitOverride().configureOutput({
      // Every error takes one line; commander puts its suggestions on a second one.
      outputError: (text, write) => write(`${text.trim().replaceAll(/\s*\n\s*/g, " ")}\n`),
    });
  return program;
}
