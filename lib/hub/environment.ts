// What a request to the hub needs to know, from options or from the environment variables of Hugging Face's tools. They
// are read at every call, so that a program may set them after it has loaded heed.
import { describe, HeedError } from "../errors.js";
import type { PretrainedOptions } from "./pretrained-options.js";

/** Whether HF_HUB_OFFLINE forbids requests: "1", "true", "yes" or "on" in any case do. */
export function isOffline(): boolean {
  return /^(1|true|yes|on)$/i.test(fromEnvironment("HF_HUB_OFFLINE") ?? "");
}

/** The hub's address, without a slash at its end. Throws ERR_ARGUMENT where it is no address of HTTP. */
export function hubAddress({ hubUrl }: PretrainedOptions): string {
  const given = hubUrl ?? fromEnvironment("HF_ENDPOINT") ?? "https://huggingface.co";
  const origin = hubUrl === undefined ? "HF_ENDPOINT" : "hubUrl";
  if (typeof given !== "string" || !URL.canParse(given) || !/^https?:$/.test(new URL(given).protocol))
    throw new HeedError("ERR_ARGUMENT", `${origin}: expected an address like https://host, got ${describe(given)}`);
  return given.replace(/\/+$/, "");
}

/** The token that the hub is to know the user by. Throws ERR_ARGUMENT, without the token, where a header cannot have it. */
export function hubToken({ accessToken }: PretrainedOptions): string | undefined {
  const given = accessToken ?? fromEnvironment("HF_TOKEN");
  if (given === undefined) return undefined;
  const origin = accessToken === undefined ? "HF_TOKEN" : "accessToken";
  if (typeof given !== "string" || !/^[\x21-\x7e]+$/.test(given))
    throw new HeedError("ERR_ARGUMENT", `${origin}: expected a token of visible ASCII characters, got something else`);
  return given;
}

/**
 * For how many milliseconds the hub may be silent: HF_HUB_ETAG_TIMEOUT when it is asked about a model,
 * HF_HUB_DOWNLOAD_TIMEOUT while a file comes, both in seconds and both 10 unless set.
 */
export function patience(variable: "HF_HUB_ETAG_TIMEOUT" | "HF_HUB_DOWNLOAD_TIMEOUT"): number {
  const seconds = Number(fromEnvironment(variable));
  return 1000 * (seconds > 0 && seconds < 1e6 ? seconds : 10);
}

/** A variable's value; undefined where it is not set or empty. */
function fromEnvironment(variable: string): string | undefined {
  const value = process.env[variable]?.trim();
  return value === "" ? undefined : value;
}
