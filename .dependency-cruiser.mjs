// Import circles in lib/, those of types and of `import()` included: a part of a circle can neither be understood nor
// tested alone. The layers are held by scripts/eslint-layering.mjs.
/** @type {import("dependency-cruiser").IConfiguration} */
export default {
  forbidden: [{ name: "no-circles", severity: "error", from: {}, to: { circular: true } }],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
  },
};
