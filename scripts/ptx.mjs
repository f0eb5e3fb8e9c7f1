// PTX as text: what nvcc writes, made portable, and cut into images (native/cuda/kernels/images.json). Uses no package,
// since it runs where heed is built from source.

/** Matches directives that end with their line. */
const oneLine = new Set(["version", "target", "address_size", "file"]);

/** Yields the statements of a module in order, each with the kernel, function or variable that it defines. */
function* statements(ptx) {
  let lines = [];
  let depth = 0;
  for (const line of ptx.split("\n")) {
    const code = line.replace(/\/\/.*/, "").trimEnd();
    if (lines.length === 0 && !code) continue;
    lines.push(line);
    for (const brace of code.match(/[{}]/g) ?? []) depth += brace === "{" ? 1 : -1;
    const directive = /^\s*\.(\w+)/.exec(lines[0])?.[1];
    if (depth > 0 || !(oneLine.has(directive) || /[;}]$/.test(code))) continue;
    const text = `${lines.join("\n")}\n`;
    const head = /^[^;{=]*/.exec(text)[0];
    const kernel = /\.entry\s+(\w+)/.exec(head)?.[1];
    // Of a function the name stands before its parameters, of a variable at the end or before its brackets.
    const name =
      /\.func\b\s*(?:\([^)]*\)\s*)?([\w$]+)/.exec(head)?.[1] ?? /([\w$]+)\s*(?:\[\d*\]\s*)*$/.exec(head)?.[1];
    yield {
      text,
      kernel,
      name: directive === "section" || oneLine.has(directive) ? undefined : (kernel ?? name),
      directive,
    };
    lines = [];
  }
  if (lines.length > 0) throw new Error(`PTX ends within a statement: ${lines[0]}`);
}

/** Returns a section of strings that has only those that `kept` names. */
function usedStrings(section, kept) {
  const [head, ...blocks] = section.split(/^(?=\$\w+:)/m);
  const end = section.slice(section.lastIndexOf("}"));
  const named = new Set(kept.match(/\$L__info_string\d+/g));
  const used = blocks.map((block) => block.replace(/\}\s*$/, "")).filter((block) => named.has(block.split(":", 1)[0]));
  return used.length === 0 ? "" : `${head}${used.join("")}${end}`;
}

/** Returns the kernels by name, in the order of the text. */
export function kernelsOf(ptx) {
  return [...ptx.matchAll(/^\.visible \.entry (\w+)/gm)].map(([, name]) => name);
}

/**
 * Cuts a module into several. `imageOf` says to which one a kernel goes. Each gets those functions, variables and names of
 * inlined functions of the module that its kernels use. The kernels stay as they are.
 */
export function splitPtx(ptx, imageOf) {
  const all = [...statements(ptx)];
  const images = new Map();
  for (const kernel of kernelsOf(ptx)) {
    const image = imageOf(kernel);
    images.set(image, [...(images.get(image) ?? []), kernel]);
  }
  const shared = all.filter((one) => !one.kernel);
  return [...images].map(([image, kernels]) => {
    const own = new Set(kernels);
    const kept = new Set(all.filter(({ kernel, name }) => (kernel ? own.has(kernel) : !name)));
    // Functions and variables that what is kept names, and those that these name.
    for (let newest = [...kept]; newest.length > 0;) {
      const words = new Set(
        newest.flatMap(({ text, directive }) => (directive === "section" ? [] : text.match(/[\w$]+/g))),
      );
      newest = shared.filter((one) => one.name && !kept.has(one) && words.has(one.name));
      for (const one of newest) kept.add(one);
    }
    const parts = all.filter((one) => kept.has(one));
    const body = parts
      .filter(({ directive }) => directive !== "section")
      .map(({ text }) => text)
      .join("");
    const sections = parts
      .filter(({ directive }) => directive === "section")
      .map(({ text }) => usedStrings(text, body));
    return { image, kernels, ptx: body + sections.join("") };
  });
}

/** Returns PTX without the source lines of its instructions, which are half of the text. */
export function withoutLines(ptx) {
  return ptx.replace(/^\s*\.(loc|file)\s.*\n/gm, "").replace(/^\s*\.section\s+\.debug_\w+\s*\{[^}]*\}\n/gm, "");
}
