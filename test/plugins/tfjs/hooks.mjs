// Module hooks that run tfjs-core's own tests in Node.js. They are ES modules for a bundler: their imports have no file
// extensions, and Node.js would take the files for CommonJS.
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const core = /\/@tensorflow\/tfjs-core\/dist\/(?!tf-core)/;
const seedrandom = "tfjs-suite:seedrandom";

export function resolve(specifier, context, next) {
  if (!core.test(context.parentURL ?? "")) return next(specifier, context);
  // A CommonJS function with members, which are named exports for a bundler.
  if (specifier === "seedrandom") return { url: seedrandom, shortCircuit: true };
  if (!specifier.startsWith(".")) return next(specifier, context);
  const url = new URL(specifier, context.parentURL).href;
  const found = [url, `${url}.js`, `${url}/index.js`].find((file) => file.endsWith(".js") && existsSync(new URL(file)));
  return found ? { url: found, shortCircuit: true } : next(specifier, context);
}

export function load(url, context, next) {
  if (url === seedrandom) {
    const names = Object.keys(createRequire(import.meta.url)("seedrandom"));
    const source =
      `import { createRequire } from "node:module";\n` +
      `const seedrandom = createRequire(${JSON.stringify(import.meta.url)})("seedrandom");\n` +
      `export const { ${names.join(", ")} } = seedrandom;\nexport default seedrandom;\n`;
    return { format: "module", source, shortCircuit: true };
  }
  if (!core.test(url)) return next(url, context);
  return { format: "module", source: readFileSync(fileURLToPath(url), "utf8"), shortCircuit: true };
}
