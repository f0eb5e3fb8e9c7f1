/** A hub on this machine: the requests that a download makes, answered from a list of files. */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface HubFile {
  content: Buffer;
  /** Whether it is known by the SHA-256 of its bytes, as large files are, or by git's SHA-1. */
  large?: boolean;
}

export class HubServer implements AsyncDisposable {
  readonly files = new Map<string, HubFile>();
  commit = "a".repeat(40);
  /** What was asked for: "GET /path", with the range. */
  readonly requests: string[] = [];
  /** After how many bytes of a file's content the connection is cut, once for each number. */
  readonly cuts: number[] = [];
  /** What the hub says of a file, changed. */
  tamper: (entry: Record<string, unknown>) => unknown = (entry) => entry;
  status = 200;
  readonly #server = createServer((request, response) => this.#answer(request, response));
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

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { pathname } = new URL(request.url!, this.url);
    const range = request.headers.range;
    this.requests.push(`${request.method} ${pathname}${range ? ` ${range}` : ""}`);
    const json = (value: unknown, status = 200) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(value));
    };
    if (this.status !== 200) return json({ error: "Repository not found" }, this.status);
    if (pathname === "/api/models/owner/tiny/revision/main")
      return json({ _id: "1", id: "owner/tiny", sha: this.commit, lastModified: "2024-01-01T00:00:00.000Z" });
    if (pathname === `/api/models/owner/tiny/tree/${this.commit}`)
      return json([...this.files].map(([name, file]) => this.tamper(entryOf(name, file))));
    const name = pathname.replace(`/owner/tiny/resolve/${this.commit}/`, "");
    const file = this.files.get(name);
    if (!file) return json({ error: "Not found" }, 404);
    this.#send(response, file.content, range);
  }

  #send(response: ServerResponse, content: Buffer, range: string | undefined): void {
    const [first, last] = range ? range.replace("bytes=", "").split("-").map(Number) : [0, content.length - 1];
    const part = content.subarray(first, last! + 1);
    const headers = { etag: '"e"', "content-length": part.length, "content-type": "application/octet-stream" };
    response.writeHead(range ? 206 : 200, {
      ...headers,
      ...(range && { "content-range": `bytes ${first}-${last}/${content.length}` }),
    });
    const cut = part.length > 1 ? this.cuts.shift() : undefined;
    if (cut === undefined) response.end(part);
    else response.write(part.subarray(0, cut), () => setTimeout(() => response.destroy(), 50));
  }
}

function entryOf(name: string, { content, large }: HubFile): Record<string, unknown> {
  const git = createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
  const sha256 = createHash("sha256").update(content).digest("hex");
  const lfs = large && { lfs: { oid: sha256, size: content.length, pointerSize: 130 } };
  return { type: "file", path: name, size: content.length, oid: git, ...lfs };
}
