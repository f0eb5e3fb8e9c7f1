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

/** What TypeScript takes for a word of native/core/params.h, and how the native call gets it; `name` is the argument's. */
function parameterOf(word, name) {
  if (/^(In|Out|InOut)List$/.test(word))
    return { type: "readonly View[]", native: "readonly Handle[]", value: `${name}.map(handleOf)` };
  if (/^Opt(Mixed|F32|I32|U8|Any)?(In|Out)$/.test(word))
    return { type: "View | null", optional: true, native: "Handle | null", value: `${name} ? ${name}.handle : null` };
  if (/^(Mixed|F32|Bf16|I32|U8|Any)?(In|Out|InOut)$/.test(word))
    return { type: "View", native: "Handle", value: `${name}.handle` };
  if (word === "Bool" || word === "Accumulate")
    return { type: "boolean", optional: true, native: "boolean", taken: `${name} = false`, value: name };
  if (word === "Int" && name === "activation")
    return { type: "number", optional: true, native: "number", taken: `${name} = nativeActivations.none`, value: name };
  if (word === "Int" || word === "Float") return { type: "number", native: "number", value: name };
  throw new Error(`ops.def: a parameter ${name} of unknown type ${word}`);
}

const operations = [...source.matchAll(/^OP\((\w+), \(([^)]*)\)\)/gm)].map(([, name, list]) => {
  const parameters = list.split(",").map((parameter) => {
    const [word, given] = parameter.trim().split(/\s+/);
    const key = camel(given);
    return { name: key, taken: key, ...parameterOf(word, key) };
  });
  return { name, parameters };
});
if (operations.length !== count(source, "OP"))
  throw new Error(`ops.def: ${count(source, "OP")} operations, ${operations.length} understood`);

const each = (make) => operations.map(make).join("\n");
const positional = ({ name, parameters }) =>
  `  ${name}(${parameters.map((p) => `${p.name}: ${p.native}`).join(", ")}): void;`;
const named = ({ name, parameters }) =>
  `  ${name}(operands: { ${parameters
    .map((p) => (p.optional ? `${p.name}?: ${p.type} | undefined` : `${p.name}: ${p.type}`))
    .join("; ")} }): void;`;
const wrapper = ({ name, parameters }) =>
  `    ${name}({ ${parameters.map((p) => p.taken).join(", ")} }) {
      native.${name}(${parameters.map((p) => p.value).join(", ")});
    },`;

write(
  "lib/native-ops.ts",
  `// Generated from native/core/ops.def by scripts/generate-ops.mjs. Do not edit.
import { nativeActivations } from "./native-kinds.js";

declare const handle: unique symbol;

/** A native view of device memory; opaque to JavaScript. */
export interface Handle {
  readonly [handle]: true;
}

/** What operations take for a tensor. */
export interface View {
  readonly handle: Handle;
}

/** The operations as the addon has them. */
export interface NativeOps {
${each(positional)}
}

/** Every operation of the native side. Each call enqueues and returns; see ops.def for the contracts. */
export interface Ops {
${each(named)}
}

const handleOf = (view: View): Handle => view.handle;

/**
 * The operations with named operands. Names are taken apart here, in JavaScript, where the compiler sees both sides and
 * makes no object of them: the addon would have to look every one of them up.
 */
export function namedOps(native: NativeOps): Ops {
  return {
${each(wrapper)}
  };
}
`,
);
