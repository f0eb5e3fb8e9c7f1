// The layers of lib/ as a lint rule. Each folder lists what it may import; upward and sideways imports are errors, also
// of types. docs/architecture.md has the picture.
import path from "node:path";

const base = ["base"];
const core = [...base, "core"];
const ops = [...core, "ops"];
const nn = [...ops, "nn"];
const models = [...nn, "models"];
const parts = [...models, "optim", "formats", "tokenizer", "structured", "hub", "adapters"];
const run = [...parts, "inspect", "embed", "distributed", "train", "data", "generate", "engine", "pretrained", "load"];
const whole = [...run, "evaluation", "report"];

/** Layers that each layer may import besides itself. */
const allowed = {
  base,
  core,
  ops: core,
  nn: ops,
  models: nn,
  adapters: models,
  optim: nn,
  formats: core,
  tokenizer: core,
  structured: [...core, "tokenizer"],
  hub: [...core, "formats"],
  web: [],
  inspect: [...models, "optim", "formats", "web"],
  embed: parts,
  pretrained: [...parts, "embed"],
  distributed: [...ops, "optim"],
  train: [...parts, "pretrained", "distributed"],
  data: [...core, "tokenizer", "hub", "formats", "train"],
  generate: parts,
  engine: [...parts, "generate"],
  load: [...parts, "inspect", "embed", "generate", "engine", "pretrained"],
  evaluation: [...parts, "generate", "engine", "data"],
  report: [...core, "formats", "train", "web"],
  server: [...core, "tokenizer", "structured", "formats", "generate", "engine", "load", "web"],
  plugins: [...core, "tokenizer", "structured", "embed", "generate", "engine", "load"],
  cli: [...whole, "server"],
};

const baseFiles = ["errors.ts", "check.ts", "dtype.ts", "shape.ts", "native.ts", "native-kinds.ts", "native-ops.ts"];

/** Returns the layer of a file relative to lib/. Files in lib/ itself are the lowest; index.ts is above everything. */
function layerOf(file) {
  const folder = file.includes("/") ? file.slice(0, file.indexOf("/")) : "";
  if (folder) return folder;
  if (file === "index.ts") return "index";
  return baseFiles.includes(file) ? "base" : "core";
}

export default {
  meta: {
    type: "problem",
    schema: [],
    messages: {
      forbidden: "{{from}} may not import {{to}}: the layers of lib/ are in scripts/eslint-layering.mjs",
      unknown: "lib/{{from}}/ is no layer: add it to scripts/eslint-layering.mjs",
    },
  },
  create(context) {
    const lib = path.join(context.cwd, "lib");
    const file = path.relative(lib, context.filename).split(path.sep).join("/");
    const from = layerOf(file);
    if (file.startsWith("../") || from === "index") return {};

    function check(node) {
      const specifier = node.source?.value;
      if (typeof specifier !== "string" || !specifier.startsWith(".")) return;
      const target = path.posix.join(path.posix.dirname(file), specifier).replace(/\.js$/, ".ts");
      const to = target.startsWith("../") ? target : layerOf(target);
      if (to !== from && !allowed[from].includes(to))
        context.report({ node: node.source, messageId: "forbidden", data: { from, to } });
    }

    if (!Object.hasOwn(allowed, from))
      return { Program: (node) => context.report({ node, messageId: "unknown", data: { from } }) };
    return {
      ImportDeclaration: check,
      ImportExpression: check,
      ExportNamedDeclaration: check,
      ExportAllDeclaration: check,
      TSImportType: check,
    };
  },
};
