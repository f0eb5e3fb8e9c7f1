// The configuration of a model on the hub is checked before its weights are downloaded.
import { expect, test } from "vitest";
import { load as loadAny } from "../../lib/load/load.js";
import { loadModel } from "../../lib/pretrained/load-model.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { expectRejection } from "../support/errors.js";
import type { HubServer } from "./server.js";
import { cacheDir, fetchFrom, startHub } from "./tiny.js";

const loaders: [string, (name: string, options: object) => Promise<unknown>][] = [
  ["loadPretrained", (name, options) => loadPretrained(name, { ...options, device: "cpu" })],
  ["loadModel", (name, options) => loadModel(name, { ...options, device: "cpu" })],
  ["load", (name, options) => loadAny(name, { ...options, device: "cpu" })],
];
const configure = (hub: HubServer, config: string) => hub.files.set("config.json", { content: Buffer.from(config) });
const weightsOf = (hub: HubServer) => hub.requests.filter((request) => request.includes("model.safetensors"));

test.each(loaders)("%s downloads no weights of a model that it does not know", async (_, load) => {
  await using hub = await startHub();
  const options = { hubUrl: hub.url, cacheDir, offline: false };
  const refused: [string, RegExp][] = [
    ['{"model_type": "mamba"}', /config\.json: expected "model_type" .*, got "mamba"/],
    ['{"model_type": ', /config\.json: expected JSON/],
  ];
  for (const [config, message] of refused) {
    configure(hub, config);
    await expectRejection(load("owner/tiny", options), "ERR_FORMAT", message);
    expect(hub.requests.some((request) => request.includes("config.json"))).toBe(true);
    expect(weightsOf(hub)).toEqual([]);
    hub.commit = "b".repeat(40);
  }
});

test("loadPretrained downloads no weights of a model of another kind, or without a configuration", async () => {
  await using hub = await startHub();
  const options = { hubUrl: hub.url, cacheDir, offline: false, device: "cpu" } as const;
  configure(hub, '{"model_type": "bert"}');
  await expectRejection(loadPretrained("owner/tiny", options), "ERR_FORMAT", /got "bert", a model of kind "encoder"/);
  hub.commit = "b".repeat(40);
  hub.files.delete("config.json");
  await expectRejection(loadPretrained("owner/tiny", options), "ERR_IO", /config\.json/);
  expect(weightsOf(hub)).toEqual([]);
});

test("the configuration comes first and weights last, in whatever order the hub lists them", async () => {
  await using hub = await startHub();
  hub.files.clear();
  for (const name of [
    "model-00001-of-00001.safetensors",
    "tokenizer.json",
    "model.safetensors.index.json",
    "config.json",
  ])
    hub.files.set(name, { content: Buffer.from(name), large: name.endsWith("s") });
  await fetchFrom(hub);
  const order = hub.downloads.map((request) => request.split("/").at(-1));
  expect(order).toEqual([
    "config.json",
    "tokenizer.json",
    "model.safetensors.index.json",
    "model-00001-of-00001.safetensors",
  ]);
});
