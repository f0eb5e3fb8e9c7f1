// To whom a server without API keys is open. At a loopback address only programs of the same machine should reach it, but
// a browser is one of them: a page whose name is made to stand for 127.0.0.1 (DNS rebinding) may ask as if the server
// were its own. Such a request has the page's name in the header "Host".
import type { FastifyInstance } from "fastify";
import { BlockList, isIP } from "node:net";
import { describe, HeedError } from "../util/errors.js";
import { ApiError } from "./api-error.js";

/** Options that say by which names a server without API keys may be asked. */
export interface HostOptions {
  /**
   * Names by which a server without API keys may be asked at a loopback address, besides "localhost", names that end with
   * ".localhost", and IP addresses; "*" stands for all names. Other requests are refused with the status 403, because a
   * page of another site may have sent them (DNS rebinding).
   *
   * @default all names without a dot
   */
  allowedHosts?: readonly string[] | undefined;
}

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

/** Returns true if only programs of the same machine can reach an address. */
export function isLoopback(address: string): boolean {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, "");
  const version = isIP(plain);
  return version !== 0 && loopback.check(plain, version === 4 ? "ipv4" : "ipv6");
}

/** Returns true if a server listens where other machines can reach it. It must be listening. */
export function isExposed(app: FastifyInstance): boolean {
  // A socket of the file system has a path in place of an address.
  return app.addresses().some((one) => typeof one === "object" && isIP(one.address) > 0 && !isLoopback(one.address));
}

/** Warning about a server without API keys that other machines can reach. */
export const exposedWarning =
  "Everybody who can reach this address may use the server: it has no API keys. Give it a file of them, or listen at 127.0.0.1.";

/** Makes a server without API keys refuse requests by names that are not its own, and warn if strangers can reach it. */
export function guardKeyless(app: FastifyInstance, { allowedHosts }: HostOptions): void {
  const names = allowedHosts && new Set(allowedHosts.map(checkedName));
  const allowed = (name: string): boolean =>
    name === "localhost" ||
    name.endsWith(".localhost") ||
    isIP(name) > 0 ||
    (names ? names.has(name) : !name.includes("."));
  let exposed = false;
  app.addHook("onListen", (done) => {
    exposed = isExposed(app);
    if (exposed) app.log.warn(exposedWarning);
    done();
  });
  if (names?.has("*")) return;
  app.addHook("onRequest", ({ raw }, _reply, done) => {
    const { host } = raw.headers;
    const { localAddress } = raw.socket;
    // What other machines can reach has been opened on purpose, perhaps to a proxy under any name.
    const local = !exposed && !!localAddress && isLoopback(localAddress);
    const foreign = local && host !== undefined && !allowed(nameOf(host));
    if (!foreign) return done();
    const text = `Expected the header "Host" to be localhost, an IP address or another allowed name, got ${JSON.stringify(host.slice(0, 100))}. A server without API keys has to be told its other names (allowedHosts, --allowed-host).`;
    done(new ApiError(403, text, { code: "host_not_allowed" }));
  });
}

/** Returns the name of a header "Host", without the port and the brackets of an address. */
function nameOf(host: string): string {
  const [, address, name = ""] = /^(?:\[([^\]]*)\]|([^:]*))(?::\d*)?$/.exec(host.trim()) ?? [];
  // A name may end with a dot, which says that it is complete.
  return (address ?? name).toLowerCase().replace(/(?<=.)\.$/, "");
}

function checkedName(name: unknown): string {
  if (typeof name === "string" && (name === "*" || /^[^\s:/*]+$/.test(name) || isIP(name) > 0))
    return nameOf(isIP(name) === 6 ? `[${name}]` : name);
  throw new HeedError(
    "ERR_ARGUMENT",
    `server: expected allowedHosts to be names without a port, such as "models.example.org", or "*", got ${describe(name)}`,
  );
}
