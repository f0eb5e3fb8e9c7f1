// Draws docs/architecture.svg, the picture of heed's layers in README.md: `node scripts/draw-architecture.mjs`.
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** Layers from top to bottom. Each box has a title and a list of its contents. */
const rows = [
  {
    label: "What you call",
    boxes: [
      { title: "load, generate, embed", text: "published and own models" },
      { title: "Trainer", text: "checkpoints, evaluation" },
      { title: "npx heed", text: "train, generate, convert" },
    ],
  },
  {
    label: "Models and files",
    boxes: [
      { title: "models", text: "GPT, Llama, BERT, T5, …" },
      { title: "nn, optim", text: "attention, norms, AdamW" },
      { title: "pretrained, formats, hub", text: "safetensors, GGUF, tokenizers" },
    ],
  },
  {
    label: "Tensors",
    boxes: [
      { title: "ops", text: "one typed function per operation" },
      { title: "tensor, autograd", text: "shapes, gradients, scopes" },
    ],
  },
  {
    label: "N-API addon",
    boxes: [{ title: "queues, memory, dispatch", text: "generated from one list of operations" }],
  },
  {
    label: "Devices",
    boxes: [
      { title: "CPU", text: "AVX-512, AVX2, portable" },
      { title: "CUDA", text: "heed's own kernels, no libraries" },
      { title: "software CUDA device", text: "runs the kernels in tests" },
    ],
  },
];

const [width, left, gap, height, pitch] = [820, 140, 12, 52, 76];
const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

function drawRow({ label, boxes }, row) {
  const y = 16 + row * pitch;
  const w = (width - left - 16 - gap * (boxes.length - 1)) / boxes.length;
  let x = left;
  const drawn = boxes.map(({ title, text }) => {
    const middle = x + w / 2;
    const box = [
      `<rect x="${x.toFixed(1)}" y="${y}" width="${w.toFixed(1)}" height="${height}" rx="6"/>`,
      `<text class="title" x="${middle.toFixed(1)}" y="${y + 22}">${escape(title)}</text>`,
      `<text x="${middle.toFixed(1)}" y="${y + 40}">${escape(text)}</text>`,
    ];
    x += w + gap;
    return box.join("\n");
  });
  const arrow = row === 0 ? "" : `<path d="M${(left + width - 16) / 2} ${y - 22}v18m-4-5l4 5l4-5"/>`;
  return `<g class="row${row}">\n<text class="label" x="16" y="${y + 30}">${escape(label)}</text>\n${arrow}\n${drawn.join("\n")}\n</g>`;
}

const style = `
  text { font: 12px system-ui, sans-serif; fill: #24292f; text-anchor: middle }
  .title { font-weight: 600; font-size: 13px }
  .label { text-anchor: start; font-weight: 600; fill: #57606a }
  rect { stroke: #8c959f; stroke-width: 1 }
  path { fill: none; stroke: #8c959f; stroke-width: 1.5 }
  .row0 rect { fill: #ddf4ff } .row1 rect { fill: #dafbe1 } .row2 rect { fill: #fff8c5 }
  .row3 rect { fill: #ffeff7 } .row4 rect { fill: #fbefff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .label { fill: #9198a1 }
    .row0 rect { fill: #0c2d6b } .row1 rect { fill: #033a16 } .row2 rect { fill: #3d2e00 }
    .row3 rect { fill: #42062a } .row4 rect { fill: #271052 }
  }`;
const size = [width, 16 + rows.length * pitch - (pitch - height) + 16];
const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size.join(" ")}" role="img" aria-label="The layers of heed">
<style>${style}
</style>
${rows.map(drawRow).join("\n")}
</svg>
`;
writeFileSync(fileURLToPath(new URL("../docs/architecture.svg", import.meta.url)), svg);
