// Writes the TypeScript side of native/core: lib/core/native-kinds.ts has the numbers of kinds.def, and lib/core/native-ops.ts the
// operations of ops.def, so that a call that does not fit its kernel does not type-check. Both are in
// native/include/heed_operations.h for C. Every build runs this script, and so do the tests before they start. The results
// are not committed.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = new URL("../", import.meta.url);
const read = (file) => readFileSync(new URL(file, root), "utf8");

/** Writes a file unless it has that text already, so that what is built from it is not built again. */
function write(file, text) {
  const target = fileURLToPath(new URL(file, root));
  let current = "";
  try {
    current = readFileSync(target, "utf8");
  } catch {
    // On the first build there is no file.
  }
  if (current !== text) writeFileSync(target, text);
}

const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

/** Returns how many lines of a .def file begin with the macro, whether they are understood or not. */
const count = (source, macro) => (source.match(new RegExp(`^${macro}\\b`, "gm")) ?? []).length;

// ---- numbers --------------------------------------------------------------------------------------------------------
const kinds = read("native/core/kinds.def");

/** Returns the members of an enumeration of kinds.def, in order. */
function members(macro) {
  const names = [...kinds.matchAll(new RegExp(`^${macro}\\((\\w+)(?:, \\w+)?\\)$`, "gm"))].map(([, name]) => name);
  if (names.length === 0 || names.length !== count(kinds, macro))
    throw new Error(`kinds.def: ${count(kinds, macro)} lines of ${macro}, ${names.length} understood`);
  return names;
}

const numbers = (macro) => `{
${members(macro)
  .map((name, i) => `  ${camel(name)}: ${i},`)
  .join("\n")}
} as const`;

write(
  "lib/core/native-kinds.ts",
  `// Generated from native/core/kinds.def by scripts/generate-ops.mjs. Do not edit.

/** Element types. The number of a dtype on the native side is its place in the list. */
export const dtypes = [${members("DTYPE")
    .map((name) => `"${camel(name)}"`)
    .join(", ")}] as const;

/** Activations that kernels fuse. */
export const nativeActivations = ${numbers("ACTIVATION")};

/** Values of \`kind\` of the operation unary. */
export const unaryKinds = ${numbers("UNARY")};

/** Values of \`kind\` of the operation binary. */
export const binaryKinds = ${numbers("BINARY")};

/** Values of \`kind\` of the operation reduce. */
export const reduceKinds = ${numbers("REDUCE")};

/** Block formats of GGUF files: values of \`format\` of the operations on blocks. */
export const blockKinds = ${numbers("BLOCK")};
`,
);

// ---- operations -----------------------------------------------------------------------------------------------------
const source = read("native/core/ops.def");

/** Returns the TypeScript type of a word of native/core/params.h and how the argument `name` reaches the native call. */
function parameterOf(word, name) {
  if (/^(In|Out|InOut)List$/.test(word))
    return { type: "readonly View[]", native: "readonly Handle[]", value: `${name}.map(handleOf)` };
  if (/^Opt(Mixed|F32|I32|U8|Any)?(In|Out|InOut)$/.test(word))
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

/** Returns the type of a word of native/core/params.h in C, and the function of heed.h that makes an argument of it. */
function cParameterOf(word) {
  if (/List$/.test(word)) return { type: "heed_list ", argument: "heed_list_argument" };
  if (/(In|Out)$/.test(word)) return { type: "heed_tensor *", argument: "heed_tensor_argument" };
  if (word === "Int") return { type: "int64_t ", argument: "heed_integer_argument" };
  if (word === "Float") return { type: "float ", argument: "heed_number_argument" };
  return { type: "int32_t ", argument: "heed_boolean_argument" };
}

const operations = [...source.matchAll(/^OP\((\w+), \(([^)]*)\)\)/gm)].map(([, name, list]) => {
  const parameters = list.split(",").map((parameter) => {
    const [word, given] = parameter.trim().split(/\s+/);
    const key = camel(given);
    return { name: key, taken: key, ...parameterOf(word, key), c: { name: given, ...cParameterOf(word) } };
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
  "lib/core/native-ops.ts",
  `// Generated from native/core/ops.def by scripts/generate-ops.mjs. Do not edit.
import { nativeActivations } from "./native-kinds.js";

declare const handle: unique symbol;

/** Native view of device memory, opaque to JavaScript. */
export interface Handle {
  readonly [handle]: true;
}

/** Value that operations take for a tensor. */
export interface View {
  readonly handle: Handle;
}

/** Operations as the addon has them, with their operands in order. */
export interface NativeOps {
${each(positional)}
}

/** Every operation of the native side. A call enqueues the operation and returns; ops.def has the contracts. */
export interface Ops {
${each(named)}
}

const handleOf = (view: View): Handle => view.handle;

/**
 * Operations with named operands. The names are taken apart here, in JavaScript, because its compiler sees both sides
 * and makes no object of them. The addon would have to look up every name.
 */
export function namedOps(native: NativeOps): Ops {
  return {
${each(wrapper)}
  };
}
`,
);

// ---- C --------------------------------------------------------------------------------------------------------------
const cNumbers = (macro, prefix) => `enum {
${members(macro)
  .map((name, i) => `  HEED_${prefix}${name.toUpperCase()} = ${i},`)
  .join("\n")
  .slice(0, -1)}
};`;

const cOperation = ({ name, parameters }) => `typedef struct heed_${name}_args {
${parameters.map(({ c }) => `  ${c.type}${c.name};`).join("\n")}
} heed_${name}_args;
static inline heed_status heed_${name}(const heed_library *library, const heed_${name}_args *args) {
  heed_argument arguments[${parameters.length}];
${parameters.map(({ c }, i) => `  arguments[${i}] = ${c.argument}(args->${c.name});`).join("\n")}
  return library->functions->call(library->context, "${name}", arguments, ${parameters.length});
}
`;

/** Returns ops.def as C: its comments, and for each operation the type of its arguments and the function that runs it. */
function cOperations() {
  const byName = new Map(operations.map((operation) => [operation.name, operation]));
  const lines = [];
  let comment = [];
  const close = () => {
    if (comment.length > 0) lines.push(`/* ${comment.join("\n * ")} */`);
    comment = [];
  };
  for (const line of source.split("\n")) {
    const [, name, trailing] = /^OP\((\w+), .*\)(?:\s*\/\/ (.*))?$/.exec(line) ?? [];
    if (name) {
      if (trailing) comment.push(trailing);
      close();
      lines.push(cOperation(byName.get(name)));
    } else if (line.startsWith("//")) comment.push(line.slice(3));
    else close();
  }
  close();
  return lines.join("\n");
}

write(
  "native/include/heed_operations.h",
  `/* Generated from native/core/ops.def and kinds.def by scripts/generate-ops.mjs. Do not edit.
 *
 * For each operation there is a function and a struct of its arguments. Set those that you do not name to 0: a tensor
 * is then missing, a flag is off, and there is no activation. In C99:
 *
 *     heed_gemm(&library, &(heed_gemm_args){.out = y, .a = a, .b = b});
 *
 * The comments are those of ops.def: In, Out and the other words for parameters stand in native/core/params.h. */
#ifndef HEED_OPERATIONS_H
#define HEED_OPERATIONS_H
#include "heed.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Element types. */
${cNumbers("DTYPE", "")}

/* Activations that operations apply to their results. */
${cNumbers("ACTIVATION", "ACTIVATION_")}

/* Values of \`kind\` of the operation unary. */
${cNumbers("UNARY", "UNARY_")}

/* Values of \`kind\` of the operation binary. */
${cNumbers("BINARY", "BINARY_")}

/* Values of \`kind\` of the operation reduce. */
${cNumbers("REDUCE", "REDUCE_")}

${cOperations()}
#ifdef __cplusplus
}
#endif
#endif /* HEED_OPERATIONS_H */
`,
);
