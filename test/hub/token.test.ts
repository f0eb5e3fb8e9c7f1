// Tests who gets the user's token, and the address of the hub in the environment.
import { readFileSync } from "node:fs";
import path from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { expectRejection } from "../support/errors.js";
import { fetchFrom, startHub, weights } from "./tiny.js";

afterEach(() => {
  vi.unstubAllEnvs();
});

test("HF_TOKEN and HF_ENDPOINT are used, whatever the token looks like", async () => {
  await using hub = await startHub();
  vi.stubEnv("HF_TOKEN", " enterprise-token\n");
  for (const address of [hub.url, `${hub.url}/`, `${hub.url}//`]) {
    hub.tokens.length = 0;
    vi.stubEnv("HF_ENDPOINT", address);
    const folder = await fetchFrom(hub, { hubUrl: undefined as never });
    expect(readFileSync(path.join(folder, "model.safetensors"))).toEqual(weights);
    expect(new Set(hub.tokens)).toEqual(new Set(["enterprise-token"]));
  }
});

test("a token in the options takes precedence over HF_TOKEN; an empty variable counts as none", async () => {
  await using hub = await startHub();
  vi.stubEnv("HF_TOKEN", "hf_other");
  await fetchFrom(hub, { accessToken: "hf_given" });
  expect(new Set(hub.tokens)).toEqual(new Set(["hf_given"]));
  hub.tokens.length = 0;
  vi.stubEnv("HF_TOKEN", "");
  await fetchFrom(hub);
  expect(new Set(hub.tokens)).toEqual(new Set([undefined]));
});

test("a token does not follow a redirection to another host", async () => {
  await using hub = await startHub();
  await using elsewhere = await startHub();
  hub.answer = (pathname) => (pathname.includes("/resolve/") ? elsewhere.url : 200);
  const folder = await fetchFrom(hub, { accessToken: "hf_secret" });
  expect(readFileSync(path.join(folder, "model.safetensors"))).toEqual(weights);
  expect(new Set(hub.tokens)).toEqual(new Set(["hf_secret"]));
  expect(elsewhere.tokens.length).toBeGreaterThan(0);
  expect(new Set(elsewhere.tokens)).toEqual(new Set([undefined]));
});

test("a token does not go to a host that an answer names", async () => {
  await using hub = await startHub();
  await using elsewhere = await startHub();
  // The library would send it to the address from which a CloudFront cache answered, and to the next page of a listing.
  elsewhere.headers = { "x-cache": "Hit from cloudfront" };
  hub.answer = (pathname) => (pathname.includes("/resolve/") ? elsewhere.url : 200);
  hub.headers = { link: `<${elsewhere.url}/api/models/owner/tiny/tree/${hub.commit}?cursor=2>; rel="next"` };
  await fetchFrom(hub, { accessToken: "hf_secret" });
  expect(elsewhere.requests.some((request) => request.includes("/tree/"))).toBe(true);
  expect(elsewhere.requests.some((request) => request.includes("/resolve/"))).toBe(true);
  expect(new Set(elsewhere.tokens)).toEqual(new Set([undefined]));
});

test("an address or a token of the wrong form", async () => {
  await using hub = await startHub();
  for (const hubUrl of ["", "nowhere", "ftp://127.0.0.1", "file:///etc"])
    await expectRejection(fetchFrom(hub, { hubUrl }), "ERR_ARGUMENT", /hubUrl: expected an address like .*, got/);
  vi.stubEnv("HF_ENDPOINT", "nowhere");
  await expectRejection(fetchFrom(hub, { hubUrl: undefined as never }), "ERR_ARGUMENT", /HF_ENDPOINT: expected/);
  const secret = "hf_sec\nret";
  await expectRejection(fetchFrom(hub, { accessToken: secret }), "ERR_ARGUMENT", /^(?!.*ret)accessToken: expected/s);
  expect(hub.requests).toEqual([]);
});
