import { cpus } from "node:os";
import { type Device, devices } from "heed";

/** Returns the name under which results of a device are published: of the processor and its instructions, or of the card. */
export function machineOf(device: Device): string {
  const { description } = devices().find(({ name }) => name === device.name)!;
  return device.kind === "cpu" ? `${cpus()[0]?.model ?? "unknown"} (${description})` : description;
}
