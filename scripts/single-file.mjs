// A plugin for Vite that puts the script and the style of a page into the page, so that it is one file.

/** Puts the script and the style into the page. */
export const singleFile = {
  name: "single-file",
  enforce: "post",
  generateBundle(_options, bundle) {
    const page = bundle["index.html"];
    const take = (file) => {
      const { code, source } = bundle[file];
      delete bundle[file];
      return (code ?? source).trim();
    };
    page.source = page.source
      .replace(/<script type="module"[^>]* src="\.\/([^"]+)"><\/script>/, (_tag, file) => {
        return `<script type="module">${take(file)}</script>`;
      })
      .replace(/<link rel="stylesheet"[^>]* href="\.\/([^"]+)">/, (_tag, file) => `<style>${take(file)}</style>`);
    const left = Object.keys(bundle).filter((file) => file !== "index.html");
    if (left.length > 0) throw new Error(`expected a page of one file, got also ${left.join(", ")}`);
  },
};

/** Options of a build for the browsers that heed's pages support, into a folder relative to the page's. */
export const buildOptions = (outDir) => ({
  outDir,
  emptyOutDir: true,
  target: ["es2022", "chrome123", "firefox120", "safari17.5"],
  modulePreload: false,
});
