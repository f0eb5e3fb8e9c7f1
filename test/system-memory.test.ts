/** Tests what a process learns about its memory, on files as Linux has them. */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { totalmem } from "node:os";
import path from "node:path";
import { expect, test } from "vitest";
import { zeros } from "../lib/core/creation.js";
import { device, devices } from "../lib/core/device.js";
import { systemMemory } from "../lib/util/system-memory.js";
import { sharedFolder } from "./support/folder.js";
import { linuxOnly, testUnless } from "./support/skip.js";
import { devicesHere } from "./support/targets.js";

const folder = sharedFolder();
const GiB = 2 ** 30;
let count = 0;

/** Returns the memory of a machine of 16 GiB, 10 of them available, whose file system has these files too. */
function memoryOf(files: Record<string, string | number>): ReturnType<typeof systemMemory> {
  const root = path.join(folder, String(count++));
  const meminfo = `MemTotal:  ${16 * 2 ** 20} kB\nMemFree: 1000 kB\nMemAvailable:   ${10 * 2 ** 20} kB\n`;
  for (const [name, content] of Object.entries({ "proc/meminfo": meminfo, ...files })) {
    mkdirSync(path.join(root, path.dirname(name)), { recursive: true });
    writeFileSync(path.join(root, name), `${content}\n`);
  }
  return systemMemory(root);
}

const v1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory";
const v2 = "25 20 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw";

test("without groups it is the machine's", () => {
  expect(memoryOf({})).toEqual({ total: 16 * GiB, available: 10 * GiB });
  expect(memoryOf({ "proc/self/cgroup": "0::/" })).toEqual({ total: 16 * GiB, available: 10 * GiB });
});

test("version 2: the least of the limits of a group and of those around it", () => {
  const files = {
    "proc/self/cgroup": "0::/pods/one",
    "proc/self/mountinfo": `22 1 8:1 / / rw - ext4 /dev/sda1 rw\n${v2}`,
    "sys/fs/cgroup/pods/one/memory.max": "max",
    "sys/fs/cgroup/pods/one/memory.current": GiB,
    "sys/fs/cgroup/pods/memory.max": 3 * GiB,
    "sys/fs/cgroup/pods/memory.current": 2 * GiB,
  };
  expect(memoryOf(files)).toEqual({ total: 3 * GiB, available: GiB });
  // What files take can be had.
  const stat = `anon 5\nfile ${GiB}\ninactive_file ${GiB / 2}\nactive_file ${GiB / 4}`;
  expect(memoryOf({ ...files, "sys/fs/cgroup/pods/memory.stat": stat }).available).toBe(1.75 * GiB);
  // A group that takes more than it may has nothing left.
  expect(memoryOf({ ...files, "sys/fs/cgroup/pods/memory.current": 4 * GiB }).available).toBe(0);
  // The machine may have less left than the group allows.
  expect(memoryOf({ ...files, "sys/fs/cgroup/pods/memory.max": 15 * GiB })).toEqual({
    ...{ total: 15 * GiB, available: 10 * GiB },
  });
});

test("version 2 in a container, which sees its own group only", () => {
  const files = { "proc/self/cgroup": "0::/", "proc/self/mountinfo": v2, "sys/fs/cgroup/memory.current": GiB };
  expect(memoryOf({ ...files, "sys/fs/cgroup/memory.max": 2 * GiB })).toEqual({ total: 2 * GiB, available: GiB });
  // The path is that outside of the container, and a part of the hierarchy is mounted.
  const mount = "25 20 0:22 /docker/7a /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
  const outside = { ...files, "proc/self/cgroup": "0::/docker/7a", "proc/self/mountinfo": mount };
  expect(memoryOf({ ...outside, "sys/fs/cgroup/memory.max": 2 * GiB }).available).toBe(GiB);
  const elsewhere = { ...outside, "proc/self/cgroup": "0::/../8b" };
  expect(memoryOf({ ...elsewhere, "sys/fs/cgroup/memory.max": 2 * GiB }).available).toBe(GiB);
});

test("version 1, whose number for no limit is a large one", () => {
  const files = {
    "proc/self/cgroup": "9:name=systemd:/\n4:memory:/a b/one\n3:cpuset:/\n0::/",
    "proc/self/mountinfo": v1,
    "sys/fs/cgroup/memory/a b/one/memory.limit_in_bytes": 4 * GiB,
    "sys/fs/cgroup/memory/a b/one/memory.usage_in_bytes": 3 * GiB,
    "sys/fs/cgroup/memory/a b/one/memory.stat": `inactive_file 7\ntotal_inactive_file ${GiB}\ntotal_active_file 0`,
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": 9 * GiB,
  };
  expect(memoryOf(files)).toEqual({ total: 4 * GiB, available: 2 * GiB });
  const unlimited = { ...files, "sys/fs/cgroup/memory/a b/one/memory.limit_in_bytes": "9223372036854771712" };
  expect(memoryOf(unlimited)).toEqual({ total: 16 * GiB, available: 10 * GiB });
});

test("files that cannot be read or understood are ignored", () => {
  const files = {
    "proc/self/cgroup": "nonsense\n4:memory",
    "proc/self/mountinfo": "1 2\n\n - cgroup2",
    "proc/meminfo": "",
  };
  const { total, available } = memoryOf(files);
  expect(total).toBe(totalmem());
  expect(available).toBeGreaterThan(0);
});

test.for(devicesHere.filter(({ device: name }) => name !== "cpu"))(
  "a card tells what it has left: $device",
  ({ device: name }) => {
    const card = device(name);
    const { memory = 0 } = devices().find((one) => one.name === name)!;
    const before = card.availableMemory();
    expect(before).toBeGreaterThan(0);
    expect(before).toBeLessThanOrEqual(memory + card.memory().cached);
    using large = zeros([2 ** 24], { device: name });
    const taken = before - card.availableMemory();
    expect(taken).toBeGreaterThanOrEqual(4 * large.size);
    expect(taken).toBeLessThan(5 * large.size);
  },
);

testUnless(process.platform !== "linux" && linuxOnly)("of this machine", () => {
  const { total, available } = systemMemory();
  expect(available).toBeGreaterThan(2 ** 20);
  expect(available).toBeLessThanOrEqual(total);
  expect(total).toBeLessThanOrEqual(totalmem());
  const [, , , , , , last] = execFileSync("free", ["-b"], { encoding: "utf8" }).split("\n")[1]!.split(/\s+/);
  expect(available).toBeLessThan(1.2 * Number(last));
  const cpu = device("cpu");
  expect(Math.abs(cpu.availableMemory() - cpu.memory().cached - systemMemory().available)).toBeLessThan(0.2 * total);
});
