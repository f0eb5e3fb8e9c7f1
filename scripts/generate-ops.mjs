// Writes the TypeScript side of native/core: lib/native-kinds.ts, the numbers of kinds.def, and lib/native-ops.ts, the
// operations of ops.def, so that a call that does not fit its kernel does not type-check. Run by every build and before
// the tests; the results are not committed.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = new URL("../", import.meta.url);
const read = (file) => readFileSync(new URL(file, root), "utf8");

/** Writes a file, unless it says the same already: what is built from it is then not built again. */
function write(file, text) {
  const target = fileURLToPath(new URL(file, root));
  let current = "";
  try {
    current = readFileSync(target, "utf8");
  } catch {
    // first build
  }
  if (current !== text) writeFileSync(target, text);
}

const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

/** How many lines of a .def file begin with the macro, whether they are understood or not. */
const count = (source, macro) => (source.match(new RegExp(`^${macro}\\b`, "gm")) ?? []).length;

// ---- numbers --------------------------------------------------------------------------------------------------------
const kinds = read("native/core/kinds.def");

/** The members of an enumeration of kinds.def, in order. */
function members(macro) {
  const names = [...kinds.matchAll(new RegExp(`^${macro}\\((\\w+)(?:, \\w+)?\\)$`, "gm"))].map(([, name]) =>
    camel(name),
  );
  if (names.length === 0 || names.length !== count(kinds, macro))
    throw new Error(`kinds.def: ${count(kinds, macro)} lines of ${macro}, ${names.length} understood`);
  return names;
}

const numbers = (macro) => `{
${members(macro)
  .map((name, i) => `  ${name}: ${i},`)
  .join("\n")}
} as const`;

write(
  "lib/native-kinds.ts",
  `// Generated from native/core/kinds.def by scripts/generate-ops.mjs. Do not edit.

/** Element types; a dtype's number on the native side is its place. */
export const dtypes = [${members("DTYPE")
    .map((name) => `"${name}"`)
    .join(", ")}] as const;

/** Activations that kernels fuse. */
export const nativeActivations = ${numbers("ACTIVATION")};

/** The \`kind\` of unary. */
export const unaryKinds = ${numbers("UNARY")};

/** The \`kind\` of binary. */
export const binaryKinds = ${numbers("BINARY")};

/** The \`kind\` of reduce. */
export const reduceKinds = ${numbers("REDUCE")};
`,
);

// ---- operations -----------------------------------------------------------------------------------------------------
const source = read("native/core/ops.def");

/** By the words of native/core/params.h. */
function typeOf(word) {
  if (/^(In|Out|InOut)List$/.test(word)) return "readonly Handle[]";
  if (/^Opt(Mixed|F32|I32|U8|Any)?(In|Out)$/.test(word)) return "Handle | null";
  if (/^(Mixed|F32|Bf16|I32|U8|Any)?(In|Out|InOut)$/.test(word)) return "Handle";
  return { Float: "number", Int: "number", Bool: "boolean", Accumulate: "boolean" }[word];
}

const lines = [];
for (const [, name, parameters] of source.matchAll(/^OP\((\w+), \(([^)]*)\)\)/gm)) {
  const list = parameters.split(",").map((parameter) => {
    const [type, word] = parameter.trim().split(/\s+/);
    if (!typeOf(type)) throw new Error(`ops.def: ${name} has a parameter of unknown type ${type}`);
    return `${camel(word)}: ${typeOf(type)}`;
  });
  lines.push(`  ${name}(${list.join(", ")}): void;`);
}
if (lines.length !== count(source, "OP"))
  throw new Error(`ops.def: ${count(source, "OP")} operations, ${lines.length} understood`);

write(
  "lib/native-ops.ts",
  `// Generated from native/core/ops.def by scripts/generate-ops.mjs. Do not edit.
declare const handle: unique symbol;

/** A native view of device memory; opaque to JavaScript. */
export interface Handle {
  readonly [handle]: true;
}

/** Every operation of the native side. Each call enqueues and returns; see ops.def for the contracts. */
export interface NativeOps {
${lines.join("\n")}
}
`,
);
