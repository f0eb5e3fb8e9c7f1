/** Runs Python's Jinja2 with the same settings for chat templates as Hugging Face's transformers. */
import { spawnSync } from "node:child_process";
import { pythonWith } from "./python.js";

const program = `
import datetime, json, sys
from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

class Generation(Extension):
    tags = {"generation"}
    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_part"), [], [], body).set_lineno(line)
    def _part(self, caller):
        return caller()

def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

def raise_exception(message):
    raise TemplateError(message)

data = json.load(sys.stdin)
now = datetime.datetime(*data["now"])
environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
environment.filters["tojson"] = tojson
environment.globals["raise_exception"] = raise_exception
environment.globals["strftime_now"] = lambda format: now.strftime(format)

def rendered(case):
    try:
        return {"text": environment.from_string(case["template"]).render(**case["variables"])}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}

json.dump([rendered(case) for case in data["cases"]], sys.stdout)
`;

const { command, missing } = pythonWith("jinja2", "python3-jinja2");

/** Why there is no Jinja2; null if there is. */
export const noJinja2 = missing;

/** Outcome of a template in Jinja2: a text, or an error's message. */
export type Rendered = { text: string; error?: undefined } | { text?: undefined; error: string };

/** Returns what Jinja2 makes of templates with their variables. `now` is the date that strftime_now() writes. */
export function jinja2(
  cases: readonly { template: string; variables: Record<string, unknown> }[],
  now = new Date(),
): Rendered[] {
  const date = [
    now.getFullYear(),
    now.getMonth() + 1,
    now.getDate(),
    now.getHours(),
    now.getMinutes(),
    now.getSeconds(),
  ];
  const { status, stdout, stderr } = spawnSync(command, ["-c", program], {
    input: JSON.stringify({ cases, now: [...date, now.getMilliseconds() * 1000] }),
    encoding: "utf8",
    maxBuffer: 2 ** 30,
    env: { ...process.env, TZ: process.env.TZ ?? "" },
  });
  if (status !== 0) throw new Error(`jinja2: ${stderr}`);
  return JSON.parse(stdout) as Rendered[];
}
