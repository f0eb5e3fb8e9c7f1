// Random sequences of downloads into one cache, several at once, from a hub that fails in every way, with files of the
// cache spoilt in between. A folder that is returned must contain what the hub published, whatever happened before.
import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import fc from "fast-check";
import { afterEach, expect, vi } from "vitest";
import { HeedError } from "../../lib/util/errors.js";
import { pretrainedFolder } from "../../lib/hub/pretrained-folder.js";
import { HubServer, type Spoilt } from "../hub/server.js";
import { fuzz } from "./fuzz.js";

/** Sets how many seconds a download waits for a silent hub. */
function patience(seconds: string): void {
  vi.stubEnv("HF_HUB_ETAG_TIMEOUT", seconds);
  vi.stubEnv("HF_HUB_DOWNLOAD_TIMEOUT", seconds);
}
afterEach(() => {
  vi.unstubAllEnvs();
});

const size = 200_000;
const names = ["config.json", "model.safetensors", "tokenizer.json"];

const load = fc.record({
  offline: fc.boolean(),
  commit: fc.boolean(),
  /** Number of milliseconds after which it is aborted. */
  abort: fc.option(fc.integer({ min: 0, max: 40 }), { freq: 4 }),
});
const step = fc.record({
  publish: fc.boolean(),
  spoil: fc.constantFrom("nothing", "truncate", "remove blob", "remove link", "listing", "left over", "Python's"),
  which: fc.nat(9),
  cuts: fc.array(fc.nat(size), { maxLength: 3 }),
  spoilt: fc.option(fc.constantFrom<Spoilt>("short", "long", "stalled"), { freq: 3 }),
  refused: fc.option(
    fc.tuple(fc.constantFrom("/revision/", "/tree/", "/resolve/"), fc.constantFrom(403, 404, 429, 503)),
    {
      freq: 3,
    },
  ),
  parts: fc.integer({ min: 1, max: 4 }),
  loads: fc.array(load, { minLength: 1, maxLength: 4 }),
});
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** Spoils a file of the cache in a way that its size, or its absence, reveals. */
function spoil(model: string, how: Step["spoil"], which: number): void {
  const pick = (folder: string, wanted: (name: string) => boolean): string | undefined => {
    if (!existsSync(folder)) return undefined;
    const found = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter(wanted).sort();
    return found.length === 0 ? undefined : path.join(folder, found[which % found.length]!);
  };
  const blob = pick(path.join(model, "blobs"), (name) => !name.includes("."));
  const link = pick(path.join(model, "snapshots"), (name) => name.includes("."));
  const listing = pick(path.join(model, "trees"), () => true);
  if (how === "truncate" && blob) truncateSync(blob, which);
  if (how === "remove blob" && blob) rmSync(blob);
  if (how === "remove link" && link) rmSync(link);
  if (how === "listing" && listing) writeFileSync(listing, "{".repeat(which));
  // Files that a killed download left, correct or wrong, and files on which another program is working.
  if (how === "left over" && blob) writeFileSync(`${blob}.free-00000000.incomplete`, readFileSync(blob).subarray(0, 7));
  if (how === "left over" && which > 6 && blob) writeFileSync(`${blob}.free-00000001.incomplete`, "wrong bytes");
  if (how === "Python's" && blob) writeFileSync(`${blob}.incomplete`, "theirs");
}

fuzz(
  "a folder that is returned has the content that the hub published",
  fc.array(step, { minLength: 1, maxLength: 5 }),
  { ci: 20, nightly: 1000 },
  async (steps) => {
    const cacheDir = mkdtempSync(path.join(tmpdir(), "heed-"));
    const model = path.join(cacheDir, "models--owner--tiny");
    await using hub = await HubServer.start({});
    const published = new Map<string, Map<string, Buffer>>();
    const publish = (): void => {
      hub.commit = String(published.size).padStart(40, "0");
      const contents = new Map(names.map((name) => [name, randomBytes(name.endsWith("json") ? 20 : size)]));
      for (const [name, content] of contents) hub.files.set(name, { content, large: name === "model.safetensors" });
      published.set(hub.commit, contents);
    };
    /** Expects that the folder contains the commit's content, and all of it if the listing can tell. */
    const check = (folder: string): void => {
      const contents = published.get(path.basename(folder))!;
      for (const [name, content] of contents) {
        const file = path.join(folder, name);
        if (name === "tokenizer.json" && !existsSync(file)) continue;
        expect(readFileSync(file).equals(content), file).toBe(true);
      }
    };
    publish();
    patience("0.2");
    try {
      for (const { publish: again, spoil: how, which, cuts, spoilt, refused, parts, loads } of steps) {
        if (again) publish();
        spoil(model, how, which);
        Object.assign(hub, { spoilt, parts });
        hub.cuts.splice(0, Infinity, ...cuts);
        hub.answer = (pathname) => (refused && pathname.includes(refused[0]) ? refused[1] : 200);
        const outcomes = await Promise.allSettled(
          loads.map(({ offline, commit, abort }) =>
            pretrainedFolder("owner/tiny", {
              ...{ hubUrl: hub.url, cacheDir, offline },
              ...(commit && { revision: hub.commit }),
              ...(abort !== null && { signal: AbortSignal.timeout(abort) }),
            }),
          ),
        );
        for (const [i, outcome] of outcomes.entries()) {
          if (outcome.status === "fulfilled") check(outcome.value);
          else if (!(outcome.reason instanceof HeedError)) {
            expect(loads[i]!.abort).not.toBeNull();
            expect((outcome.reason as Error).name).toBe("TimeoutError");
          }
        }
      }
      // The hub works again, but may be slow on a busy machine. Files that were left over may be wrong, which is found
      // out once per file.
      patience("30");
      Object.assign(hub, { spoilt: null, parts: 1, answer: () => 200 });
      hub.cuts.length = 0;
      const options = { hubUrl: hub.url, cacheDir, offline: false };
      const attempt = () => pretrainedFolder("owner/tiny", options).catch(() => null);
      const folder =
        (await attempt()) ?? (await attempt()) ?? (await attempt()) ?? (await pretrainedFolder("owner/tiny", options));
      expect(path.basename(folder)).toBe(hub.commit);
      check(folder);
      expect(readdirSync(folder).sort()).toEqual(names);
      for (const content of published.get(hub.commit)!.values()) {
        const hash = createHash("sha256").update(content).digest("hex");
        const git = createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
        const found = [hash, git].filter((name) => existsSync(path.join(model, "blobs", name)));
        expect(found).toHaveLength(1);
        expect(readFileSync(path.join(model, "blobs", found[0]!)).equals(content)).toBe(true);
      }
    } finally {
      rmSync(cacheDir, { recursive: true, force: true });
    }
  },
);
