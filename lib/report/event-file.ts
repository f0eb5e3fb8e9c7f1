// An event file of TensorBoard: records of TFRecord's format (the length, its checksum, the bytes, their checksum), each
// of which is a message Event of TensorFlow's event.proto. Records are only appended, each with one write, so that a
// killed process leaves at most one unfinished record, which TensorBoard skips.
import { hostname } from "node:os";
import path from "node:path";
import { FileWriter } from "../util/file-writer.js";
import { crc32c } from "./crc32c.js";
import { bytesField, doubleField, integerField } from "./protobuf.js";

/** Number of event files that this process has begun, so that two of the same second have different names. */
let files = 0;

/** Event file, to which events are appended. */
export class EventFile implements Disposable {
  /** Path of the file. */
  readonly file: string;
  readonly #writer: FileWriter;

  /**
   * Creates a file in a folder, and the folder if it does not exist.
   *
   * @throws ERR_IO if that fails.
   */
  constructor(folder: string) {
    const seconds = Math.floor(Date.now() / 1000);
    // TensorBoard reads files with "tfevents" in their names in the order of their names.
    const name = `events.out.tfevents.${String(seconds).padStart(10, "0")}.${hostname()}.${process.pid}.${files++}`;
    this.file = path.join(folder, name);
    this.#writer = new FileWriter(this.file, "ax");
    this.write(0, bytesField(3, "brain.Event:2"));
  }

  /**
   * Appends an event of a step, whose content is a field of the message Event.
   *
   * @throws ERR_IO if the write fails.
   */
  write(step: number, content: Uint8Array): void {
    const event = Buffer.concat([doubleField(1, Date.now() / 1000), integerField(2, step), content]);
    const record = Buffer.alloc(16 + event.length);
    record.writeBigUInt64LE(BigInt(event.length));
    record.writeUInt32LE(masked(record.subarray(0, 8)), 8);
    event.copy(record, 12);
    record.writeUInt32LE(masked(event), 12 + event.length);
    this.#writer.write(record);
  }

  [Symbol.dispose](): void {
    this.#writer[Symbol.dispose]();
  }
}

/** Returns TFRecord's checksum: a CRC-32C, rotated and shifted, since the CRC of a text that contains its CRC is weak. */
function masked(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}
