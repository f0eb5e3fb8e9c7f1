/** Builds the addon of probe.c and describes its functions. Each of them calls one function of heed.h. */
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { DLPackTensor, NativeInterface, NativeTensor } from "../../lib/core/native.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const require = createRequire(import.meta.url);

/** Number of a tensor that the addon holds. */
export type Id = number;

/** Changes of a DLPack tensor that the addon passes on as its own. */
export interface Relayed {
  kind?: 0 | 1;
  major?: number;
  readOnly?: number;
  code?: number;
  bits?: number;
  lanes?: number;
  deviceType?: number;
  deviceId?: number;
  ndim?: number;
  shape?: number[];
  strides?: number[];
  compact?: number;
  offset?: number;
}

export interface Memory {
  device?: number;
  dtype?: number;
  shape: number[];
  strides?: number[];
  bytes: Uint8Array;
  readOnly?: number;
  beyond?: number;
  null?: number;
  size?: number;
}

export interface Probe {
  open(external: unknown): void;
  forge(external: NativeInterface, major: number, bytes: number, magic: number): number;
  devices(): string[];
  deviceKind(device: number, size: number): number;
  memory(memory: Memory): Id;
  deletions(): number;
  empty(device: number, dtype: number, shape: number[]): Id;
  view(id: Id | null, shape: number[], strides: number[] | null, offset: number): Id;
  release(id: Id): void;
  describe(id: Id | null): string;
  write(id: Id, bytes: Uint8Array): void;
  read(id: Id, bytes: number): ArrayBuffer;
  peek(id: Id): ArrayBuffer;
  wait(id: Id): void;
  waitDevice(device: number): void;
  after(id: Id): Promise<void>;
  afterDevice(device: number): Promise<void>;
  announce(device: number): void;
  stream(device: number): number;
  transfer(to: Id, from: Id): void;
  toValue(id: Id): NativeTensor;
  fromValue(external: unknown): Id;
  toDlpack(id: Id, kind: number): DLPackTensor;
  fromDlpack(external: unknown): Id;
  relay(external: DLPackTensor, changes: Relayed): DLPackTensor;
  dropElsewhere(external: DLPackTensor): void;
  callElsewhere(): string;
  gemm(out: Id, a: Id, b: Id, bias: Id | null, accumulate: number): void;
  attend(out: Id, q: Id, k: Id, v: Id, scale: number): void;
  globalNorm(out: Id, ids: Id[]): void;
  call(name: string, types: number[], values: number[]): void;
}

/** Compiles the addon as strict C99, into a folder, and returns its file. `HEED_TEST_CFLAGS` may add flags. */
export function buildProbe(folder: string): string {
  const file = path.join(folder, "probe.node");
  const { include_dir } = require("node-api-headers") as { include_dir: string };
  const flags = ["-shared", "-fPIC", "-pthread", "-O1", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"];
  const added = (process.env.HEED_TEST_CFLAGS ?? "").split(" ").filter(Boolean);
  const includes = [path.join(root, "native/include"), include_dir].flatMap((include) => ["-I", include]);
  execFileSync("gcc", [...flags, ...added, ...includes, path.join(root, "test/c-interface/probe.c"), "-o", file]);
  return file;
}

export function loadProbe(file: string): Probe {
  return require(file) as Probe;
}
