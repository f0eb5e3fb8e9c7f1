import eslint from "@eslint/js";
import { defineConfig } from "eslint/config";
import tseslint from "typescript-eslint";
import globals from "globals";
import docstrings from "./scripts/eslint-docstrings.mjs";

export default defineConfig(
  {
    ignores: [
      "dist/",
      "build*/",
      "docs/reference/",
      "coverage/",
      "prebuilds/",
      "runs/",
      "lib/core/native-kinds.ts",
      "lib/core/native-ops.ts",
    ],
  },
  eslint.configs.recommended,
  { linterOptions: { reportUnusedDisableDirectives: "error" } },
  {
    files: ["**/*.{js,mjs}"],
    languageOptions: { globals: globals.node },
  },
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: { allowDefaultProject: ["vitest.config.ts"] } } },
    plugins: { heed: { rules: { docstrings } } },
    rules: {
      "@typescript-eslint/consistent-type-imports": ["error", { disallowTypeAnnotations: false }],
      "@typescript-eslint/switch-exhaustiveness-check": "error",
      // noUncheckedIndexedAccess makes every a[i] of a checked loop possibly undefined: `!` says that i is in range.
      "@typescript-eslint/no-non-null-assertion": "off",
      // The public functions check at run time what the types promise: JavaScript callers do not see the types.
      "@typescript-eslint/no-unnecessary-condition": "off",
      "@typescript-eslint/no-unnecessary-type-conversion": "off",
      "@typescript-eslint/restrict-template-expressions": [
        "error",
        {
          allowNumber: true,
          allowBoolean: true,
          allowNullish: true,
          allow: [{ from: "file", name: ["Tensor", "FloatTensor", "IntTensor", "Device"] }],
        },
      ],
      "@typescript-eslint/no-confusing-void-expression": [
        "error",
        { ignoreArrowShorthand: true, ignoreVoidReturningFunctions: true },
      ],
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
    },
  },
  // docs/style.md says why.
  { files: ["{lib,bench}/**/*.ts"], rules: { "heed/docstrings": "error" } },
  {
    // V8 ends the process if a worker thread is terminated while it begins a module with a top-level await.
    files: ["lib/**/*-worker.ts"],
    rules: {
      "no-restricted-syntax": [
        "error",
        { selector: "AwaitExpression:not(:function AwaitExpression)", message: "Await within a function." },
      ],
    },
  },
  {
    files: ["test/**/*.ts"],
    rules: {
      // Matchers such as expect.stringContaining are any.
      "@typescript-eslint/no-unsafe-assignment": "off",
      "@typescript-eslint/require-await": "off",
    },
  },
  {
    files: ["test/**/*.test.ts"],
    rules: {
      "no-restricted-properties": [
        "error",
        ...["skipIf", "runIf"].map((property) => ({
          property,
          message: "Use testUnless or describeUnless of test/support/skip.ts: each skip names its reason.",
        })),
      ],
    },
  },
);
