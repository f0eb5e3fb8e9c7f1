import { Command } from "commander";

export function infoCommand(): Command {
  return new Command("info")
    .description("Tell what heed runs on: versions, devices, instruction set, threads.")
    .addHelpText(
      "after",
      `
Examples:
  $ heed info`,
    )
    .action(async () => (await import("./info.js")).info());
}
