/** Runs Python's Jinja2 with the same settings for chat templates as Hugging Face's transformers. */
import { spawnSync } from "node:child_process";

const program = `
import json, sys
from jinja2.sandbox import ImmutableSandboxedEnvironment
environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
cases = json.load(sys.stdin)
json.dump([environment.from_string(case["template"]).render(**case["variables"]) for case in cases], sys.stdout)
`;

/** True if Python has Jinja2. Otherwise tests that need it are skipped, and a warning says so. */
export const hasJinja2 = spawnSync("python3", ["-c", "import jinja2"]).status === 0;
if (!hasJinja2) console.warn("skipped: python3 has no jinja2 (Debian's python3-jinja2)");

/** Returns the texts of templates with their variables. */
export function jinja2(cases: readonly { template: string; variables: Record<string, unknown> }[]): string[] {
  const { status, stdout, stderr } = spawnSync("python3", ["-c", program], {
    input: JSON.stringify(cases),
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`jinja2: ${stderr}`);
  return JSON.parse(stdout) as string[];
}
