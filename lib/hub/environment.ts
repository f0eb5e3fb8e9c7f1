// Settings of requests to the hub, from options or from the environment variables of Hugging Face's tools. The
// variables are read at every call, so that a program can set them after it has loaded heed.
import { describe, HeedError } from "../util/errors.js";
import type { PretrainedOptions } from "./pretrained-options.js";

/** Returns true if HF_HUB_OFFLINE forbids requests: if it is "1", "true", "yes" or "on", in upper or lower case. */
export function isOffline(): boolean {
  return /^(1|true|yes|on)$/i.test(fromEnvironment("HF_HUB_OFFLINE") ?? "");
}

/**
 * Returns the address of the hub, without a slash at its end.
 *
 * @throws ERR_ARGUMENT if it is not an HTTP address.
 */
export function hubAddress({ hubUrl }: PretrainedOptions): string {
  const given = hubUrl ?? fromEnvironment("HF_ENDPOINT") ?? "https://huggingface.co";
  const origin = hubUrl === undefined ? "HF_ENDPOINT" : "hubUrl";
  if (typeof given !== "string" || !URL.canParse(given) || !/^https?:$/.test(new URL(given).protocol))
    throw new HeedError("ERR_ARGUMENT", `${origin}: expected an address like https://host, got ${describe(given)}`);
  return given.replace(/\/+$/, "");
}

/**
 * Returns the token that identifies the user to the hub, or undefined if there is none.
 *
 * @throws ERR_ARGUMENT if a header cannot contain the token. The message does not reveal it.
 */
export function hubToken({ accessToken }: PretrainedOptions): string | undefined {
  const given = accessToken ?? fromEnvironment("HF_TOKEN");
  if (given === undefined) return undefined;
  const origin = accessToken === undefined ? "HF_TOKEN" : "accessToken";
  if (typeof given !== "string" || !/^[\x21-\x7e]+$/.test(given))
    throw new HeedError("ERR_ARGUMENT", `${origin}: expected a token of visible ASCII characters, got something else`);
  return given;
}

/**
 * Returns how long the hub may be silent, in milliseconds: HF_HUB_ETAG_TIMEOUT while it is asked about a model,
 * HF_HUB_DOWNLOAD_TIMEOUT while a file is downloaded. Both variables are in seconds, and both default to 10.
 */
export function patience(variable: "HF_HUB_ETAG_TIMEOUT" | "HF_HUB_DOWNLOAD_TIMEOUT"): number {
  const seconds = Number(fromEnvironment(variable));
  return 1000 * (seconds > 0 && seconds < 1e6 ? seconds : 10);
}

/** Returns the value of a variable, or undefined if it is not set or empty. */
function fromEnvironment(variable: string): string | undefined {
  const value = process.env[variable]?.trim();
  return value === "" ? undefined : value;
}
