/** Runs Python's Jinja2 with the same settings for chat templates as Hugging Face's transformers. */
import { spawnSync } from "node:child_process";
import { pythonWith } from "./python.js";

const program = `
import json, sys
from jinja2.sandbox import ImmutableSandboxedEnvironment
environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
cases = json.load(sys.stdin)
json.dump([environment.from_string(case["template"]).render(**case["variables"]) for case in cases], sys.stdout)
`;

const { command, missing } = pythonWith("jinja2", "python3-jinja2");

/** Why there is no Jinja2; null if there is. */
export const noJinja2 = missing;

/** Returns the texts of templates with their variables. */
export function jinja2(cases: readonly { template: string; variables: Record<string, unknown> }[]): string[] {
  const { status, stdout, stderr } = spawnSync(command, ["-c", program], {
    input: JSON.stringify(cases),
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`jinja2: ${stderr}`);
  return JSON.parse(stdout) as string[];
}
