/** A hub on this machine, which answers the requests of a download from a list of files. */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

export interface HubFile {
  content: Buffer;
  /** True if the file is identified by the SHA-256 of its bytes, like large files, and false if by git's SHA-1. */
  large?: boolean;
}

/** Damage of a file's body: it ends early, continues with other bytes, or never ends. */
export type Spoilt = "short" | "long" | "stalled";

export class HubServer implements AsyncDisposable {
  readonly files = new Map<string, HubFile>();
  commit = "a".repeat(40);
  /** Requests in the form "GET /path", with the range. */
  readonly requests: string[] = [];
  /** Tokens of the requests; undefined for a request without one. */
  readonly tokens: (string | undefined)[] = [];
  /** Numbers of bytes of a file's content after which the connection is cut, once for each number. */
  readonly cuts: number[] = [];
  /** How the bodies of large files are spoilt. */
  spoilt: Spoilt | null = null;
  /** Number of parts in which the bodies of large files arrive, 10 ms apart. */
  parts = 1;
  /** Changes the hub's information about a file. */
  tamper: (entry: Record<string, unknown>) => unknown = (entry) => entry;
  /** Changes the answer to a path: a status, a redirection, or no answer (null). */
  answer: (pathname: string) => number | string | null = () => 200;
  /** Number of requests whose connections are closed before an answer begins. */
  broken = 0;
  /** True if the files are those of a data set, false if of a model. */
  dataset = false;
  /** Headers that are added to every answer. */
  headers: Record<string, string> = {};
  readonly #server = createServer((request, response) => void this.#answer(request, response));
  url = "";

  static async start(files: Record<string, HubFile>): Promise<HubServer> {
    const hub = new HubServer();
    for (const [name, file] of Object.entries(files)) hub.files.set(name, file);
    await new Promise<void>((resolve) => hub.#server.listen(0, "127.0.0.1", resolve));
    hub.url = `http://127.0.0.1:${(hub.#server.address() as AddressInfo).port}`;
    return hub;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Returns the requests for the contents of files. */
  get downloads(): string[] {
    return this.requests.filter((request) => request.includes("/resolve/") && !request.endsWith("bytes=0-0"));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = new URL(request.url!, this.url);
    const range = request.headers.range;
    this.requests.push(`${request.method} ${pathname}${range ? ` ${range}` : ""}`);
    this.tokens.push(request.headers.authorization?.replace("Bearer ", ""));
    if (this.broken > 0) {
      this.broken--;
      response.destroy();
      return;
    }
    const json = (value: unknown, status = 200) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(value));
    };
    for (const [header, value] of Object.entries(this.headers)) response.setHeader(header, value);
    const answer = this.answer(pathname);
    if (answer === null) return;
    if (typeof answer === "string") {
      response.writeHead(302, { location: answer + request.url! }).end();
      return;
    }
    if (answer !== 200) {
      json({ error: answer === 404 ? "Repository not found" : "Out of order" }, answer);
      return;
    }
    const api = `/api/${this.dataset ? "datasets" : "models"}/owner/tiny`;
    if ([`${api}/revision/main`, `${api}/revision/${this.commit}`].includes(pathname)) {
      json({ _id: "1", id: "owner/tiny", sha: this.commit, lastModified: "2024-01-01T00:00:00.000Z" });
      return;
    }
    if (pathname === `${api}/tree/${this.commit}`) {
      json([...this.files].map(([name, file]) => this.tamper(entryOf(name, file))));
      return;
    }
    const prefix = this.dataset ? "/datasets" : "";
    const name = pathname.replace(`${prefix}/owner/tiny/resolve/${this.commit}/`, "");
    const file = this.files.get(name);
    if (!file) {
      json({ error: "Not found" }, 404);
      return;
    }
    await this.#send(response, file, range);
  }

  async #send(response: ServerResponse, { content, large }: HubFile, range: string | undefined): Promise<void> {
    const [first, last] = range ? range.replace("bytes=", "").split("-").map(Number) : [0, content.length - 1];
    const part = content.subarray(first, last! + 1);
    const spoilt = large && range !== "bytes=0-0" ? this.spoilt : null;
    response.writeHead(range ? 206 : 200, {
      etag: '"e"',
      "content-type": "application/octet-stream",
      // Without a length, the body ends with its last chunk.
      ...(spoilt === null && { "content-length": part.length }),
      ...(range && { "content-range": `bytes ${first}-${last}/${content.length}` }),
    });
    const cut = part.length > 1 ? this.cuts.shift() : undefined;
    if (cut !== undefined) {
      response.write(part.subarray(0, cut), () => setTimeout(() => response.destroy(), 50));
      return;
    }
    if (spoilt === "long") return this.#sendWithoutEnd(response, part);
    if (spoilt !== null) {
      response.write(part.subarray(0, part.length - 1));
      if (spoilt === "short") response.end();
      return;
    }
    const step = large ? Math.ceil(part.length / this.parts) : part.length;
    let at = 0;
    for (; at + step < part.length; at += step) {
      response.write(part.subarray(at, at + step));
      await sleep(10);
    }
    response.end(part.subarray(at));
  }

  async #sendWithoutEnd(response: ServerResponse, part: Buffer): Promise<void> {
    response.write(part);
    // A response whose connection was closed before it began never counts as destroyed.
    while (response.socket?.destroyed === false) {
      response.write(Buffer.alloc(65536));
      await sleep(1);
    }
  }
}

function entryOf(name: string, { content, large }: HubFile): Record<string, unknown> {
  const git = createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
  const sha256 = createHash("sha256").update(content).digest("hex");
  const lfs = large && { lfs: { oid: sha256, size: content.length, pointerSize: 130 } };
  return { type: "file", path: name, size: content.length, oid: git, ...lfs };
}
