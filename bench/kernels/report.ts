import type { Counters, KernelCase } from "./case.js";
import { architectures, type ImageTime, mostSeconds, occupancy, type Resources } from "./resources.js";

/** Figures of one case. A ratio compares with the least or the ideal, so that 1 is best. */
export interface Figures {
  name: string;
  shape: string;
  dtype: string;
  launches: number;
  bytes?: number;
  loadSectors: number;
  storeSectors: number;
  wavefronts?: number;
  /** Share of matrix instructions in all warp instructions; or of multiply-adds if the case gives their number. */
  share: number;
  instructions: number;
  /** Descriptions of the limits that were not kept. */
  missed: string[];
}

const sectorBytes = 32;

export function figuresOf(one: KernelCase, counters: Record<string, Counters>): Figures {
  const chosen = Object.entries(counters)
    .filter(([kernel]) => one.kernels.test(kernel))
    .map(([, counted]) => counted);
  if (chosen.length === 0) throw new Error(`${one.name}: none of ${Object.keys(counters).join(", ")} is meant`);
  const sum = (key: keyof Counters): number => chosen.reduce((total, counted) => total + counted[key], 0);
  const moved = (sum("global_load_sectors") + sum("global_store_sectors")) * sectorBytes;
  const wavefronts = sum("shared_wavefronts_ideal");
  const figures: Figures = {
    name: one.name,
    shape: one.shape,
    dtype: one.dtype,
    launches: sum("launches") - (one.besides ?? 0),
    ...(one.least && { bytes: moved / (one.least.loads + one.least.stores) }),
    loadSectors: ratio(sum("global_load_sectors"), sum("global_load_sectors_ideal")),
    storeSectors: ratio(sum("global_store_sectors"), sum("global_store_sectors_ideal")),
    ...(wavefronts > 0 && { wavefronts: sum("shared_wavefronts") / wavefronts }),
    share: ratio(one.multiplyAdds === undefined ? sum("mma") : one.multiplyAdds / 32, sum("instructions")),
    instructions: sum("instructions"),
    missed: [],
  };
  for (const [key, target] of Object.entries(one.targets ?? {}) as [
    keyof NonNullable<KernelCase["targets"]>,
    number,
  ][]) {
    const value = figures[key];
    const [missed, bound] = key === "share" ? [value! < target, "least"] : [value! > target, "most"];
    if (value !== undefined && missed)
      figures.missed.push(
        `${one.name} ${one.shape} ${one.dtype}: ${key} ${show(value)}, expected at ${bound} ${target}`,
      );
  }
  return figures;
}

function ratio(value: number, ideal: number): number {
  return ideal > 0 ? value / ideal : 0;
}

const show = (value: number | undefined): string =>
  value === undefined ? "–" : Number.isInteger(value) ? String(value) : value.toFixed(3);

function tableOf(head: string[], rows: string[][]): string {
  const line = (cells: string[]): string => `| ${cells.join(" | ")} |`;
  const rule = head.map((_, i) => (i < 2 ? "---" : "---:"));
  return [line(head), line(rule), ...rows.map(line)].join("\n");
}

export function trafficTable(figures: readonly Figures[]): string {
  return tableOf(
    [
      "what",
      "shape",
      "dtype",
      "launches",
      "bytes / least",
      "load sectors / ideal",
      "store sectors / ideal",
      "wavefronts / ideal",
      "mma or FMA share",
    ],
    figures.map((f) => [
      f.name,
      f.shape,
      f.dtype,
      show(f.launches),
      show(f.bytes),
      show(f.loadSectors),
      show(f.storeSectors),
      show(f.wavefronts),
      f.share ? `${(f.share * 100).toFixed(1)} %` : "–",
    ]),
  );
}

/** Returns the numbers of all architectures, or a single number if they agree. */
function byArchitecture(values: readonly number[]): string {
  return (new Set(values).size === 1 ? values.slice(0, 1) : values).join(" / ");
}

/** Returns a table of the seconds that ptxas takes for each image, with the slowest image first. */
export function timeTable(times: readonly ImageTime[]): string {
  const most = ({ seconds }: ImageTime): number => Math.max(...seconds);
  return tableOf(
    ["image", ...architectures.map((architecture) => `sm_${architecture}`)],
    [...times]
      .sort((a, b) => most(b) - most(a))
      .map(({ image, seconds }) => [image, ...seconds.map((one) => one.toFixed(2))]),
  );
}

export function resourceTable(resources: readonly Resources[], dynamicShared: ReadonlyMap<string, number>): string {
  return tableOf(
    ["kernel", "image", "threads", "registers", "spills", "shared memory", "occupancy"],
    resources.map((one) => {
      const dynamic = dynamicShared.get(one.kernel);
      return [
        one.kernel,
        one.image,
        String(one.threads),
        byArchitecture(one.registers),
        byArchitecture(one.spillBytes),
        dynamic ? `${one.staticShared} + ${dynamic} B` : `${one.staticShared} B`,
        `${Math.round(occupancy(one, dynamic ?? 0) * 100)} %`,
      ];
    }),
  );
}

/** Returns the text of docs/kernels.md. */
export function markdown(
  figures: readonly Figures[],
  resources: readonly Resources[],
  times: readonly ImageTime[],
  dynamicShared: ReadonlyMap<string, number>,
  missed: readonly string[],
): string {
  return `# Kernels

Written by \`npm run kernels -- --write\`; do not edit. None of these figures depends on
the machine, but for the seconds at the end.

## What they move

Counted by the software device at the shapes stated. Bytes are those of the 32-byte sectors that all requests touched,
against the least the operation can do with; sectors and wavefronts are against requests whose bytes lie side by side.
Launches of a block's backward do not include its forward. By default it computes norms and activations again,
which saves their memory; \`setRecompute(false)\` keeps them, for fewer launches.

${trafficTable(figures)}

${missed.length ? `Targets missed:\n\n${missed.map((text) => `- ${text}`).join("\n")}` : "Every target is met."}

## What they take

From ptxas for ${architectures.map((architecture) => `sm_${architecture}`).join(", ")}: registers and bytes of spills in this order, or once where all
are the same. Shared memory and occupancy are for sm_80: shared memory is what every launch has, plus what the launches above asked for; occupancy is the
share of a multiprocessor's 64 warps that can be resident.

${resourceTable(resources, dynamicShared)}

## What compiling takes

Seconds of ptxas for each image, on the machine that wrote this page: what the first launch takes on a card that heed has no
machine code for. At most ${mostSeconds} are allowed.

${timeTable(times)}
`;
}
