// Writes lib/native-ops.ts, the TypeScript side of native/core/ops.def, so that a call that does not fit its kernel
// does not type-check. Run by every build; the result is not committed.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = new URL("../", import.meta.url);
const source = readFileSync(new URL("native/core/ops.def", root), "utf8");
/** By the words of native/core/params.h. */
function typeOf(word) {
  if (/^(In|Out|InOut)List$/.test(word)) return "readonly Handle[]";
  if (/^Opt(Mixed|F32|I32|U8|Any)?(In|Out)$/.test(word)) return "Handle | null";
  if (/^(Mixed|F32|Bf16|I32|U8|Any)?(In|Out|InOut)$/.test(word)) return "Handle";
  return { Float: "number", Int: "number", Bool: "boolean", Accumulate: "boolean" }[word];
}

const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

const lines = [];
for (const [, name, parameters] of source.matchAll(/^OP\((\w+), \(([^)]*)\)\)/gm)) {
  const list = parameters.split(",").map((parameter) => {
    const [type, word] = parameter.trim().split(/\s+/);
    if (!typeOf(type)) throw new Error(`ops.def: ${name} has a parameter of unknown type ${type}`);
    return `${camel(word)}: ${typeOf(type)}`;
  });
  lines.push(`  ${name}(${list.join(", ")}): void;`);
}
const declared = (source.match(/^OP\(/gm) ?? []).length;
if (lines.length !== declared) throw new Error(`ops.def: ${declared} operations, ${lines.length} understood`);

const text = `// Generated from native/core/ops.def by scripts/generate-ops.mjs. Do not edit.
declare const handle: unique symbol;

/** A native view of device memory; opaque to JavaScript. */
export interface Handle {
  readonly [handle]: true;
}

/** Every operation of the native side. Each call enqueues and returns; see ops.def for the contracts. */
export interface NativeOps {
${lines.join("\n")}
}
`;

const target = fileURLToPath(new URL("lib/native-ops.ts", root));
let current = "";
try {
  current = readFileSync(target, "utf8");
} catch {
  // first build
}
if (current !== text) writeFileSync(target, text);
