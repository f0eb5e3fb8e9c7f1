// Builds the page of `heed inspect` into one file, dist/inspect/web/index.html, into which ../page puts the data.
//
//   npm run build:web                  builds it
import { defineConfig } from "vite";
import { singleFilePage } from "../../../scripts/vite-single-file.mjs";

export default defineConfig(singleFilePage(import.meta.url, "inspect/web"));
