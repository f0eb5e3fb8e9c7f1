/** Event files as TensorBoard's published schema reads them, by Debian's python3-protobuf. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { crc32c } from "../../lib/report/crc32c.js";
import { histogramOf } from "../../lib/report/histogram.js";
import { TensorBoard } from "../../lib/report/tensorboard.js";
import { temporaryFolder } from "../support/folder.js";
import { pythonWith } from "../support/python.js";

const { command: python, missing } = pythonWith("google.protobuf", "python3-protobuf");

/**
 * Reads a file of TFRecords and prints its events as JSON. The messages are built from tensorflow's event.proto,
 * summary.proto, tensor.proto and tensor_shape.proto, as far as the fields are used. The checksums are computed bit by
 * bit.
 */
const program = `
import json, struct, sys
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.json_format import MessageToDict
F = descriptor_pb2.FieldDescriptorProto
file = descriptor_pb2.FileDescriptorProto(name="event.proto", package="tensorflow", syntax="proto3")
def message(name, *fields):
    m = file.message_type.add(name=name)
    for field, number, kind, *rest in fields:
        f = m.field.add(name=field, number=number, label=F.LABEL_REPEATED if "many" in rest else F.LABEL_OPTIONAL)
        if isinstance(kind, str): f.type, f.type_name = F.TYPE_MESSAGE, ".tensorflow." + kind
        else: f.type = kind
        if "packed" in rest: f.options.packed = True
        if "one" in rest:
            if not m.oneof_decl: m.oneof_decl.add(name="one")
            f.oneof_index = 0
message("HistogramProto", *[(n, i + 1, F.TYPE_DOUBLE) for i, n in enumerate(["min", "max", "num", "sum", "sum_squares"])],
    ("bucket_limit", 6, F.TYPE_DOUBLE, "many", "packed"), ("bucket", 7, F.TYPE_DOUBLE, "many", "packed"))
message("Dim", ("size", 1, F.TYPE_INT64), ("name", 2, F.TYPE_STRING))
message("TensorShapeProto", ("dim", 2, "Dim", "many"), ("unknown_rank", 3, F.TYPE_BOOL))
message("TensorProto", ("dtype", 1, F.TYPE_INT32), ("tensor_shape", 2, "TensorShapeProto"), ("version_number", 3, F.TYPE_INT32),
    ("tensor_content", 4, F.TYPE_BYTES), ("string_val", 8, F.TYPE_BYTES, "many"))
message("PluginData", ("plugin_name", 1, F.TYPE_STRING), ("content", 2, F.TYPE_BYTES))
message("SummaryMetadata", ("plugin_data", 1, "PluginData"), ("display_name", 2, F.TYPE_STRING))
message("Value", ("tag", 1, F.TYPE_STRING), ("node_name", 7, F.TYPE_STRING), ("simple_value", 2, F.TYPE_FLOAT, "one"), ("histo", 5, "HistogramProto", "one"),
    ("tensor", 8, "TensorProto", "one"), ("metadata", 9, "SummaryMetadata"))
message("Summary", ("value", 1, "Value", "many"))
message("SessionLog", ("status", 1, F.TYPE_INT32), ("checkpoint_path", 2, F.TYPE_STRING), ("msg", 3, F.TYPE_STRING))
message("Event", ("wall_time", 1, F.TYPE_DOUBLE), ("step", 2, F.TYPE_INT64), ("file_version", 3, F.TYPE_STRING, "one"),
    ("summary", 5, "Summary", "one"), ("session_log", 7, "SessionLog", "one"))
pool = descriptor_pool.DescriptorPool()
pool.Add(file)
described = pool.FindMessageTypeByName("tensorflow.Event")
Event = getattr(message_factory, "GetMessageClass", lambda d: message_factory.MessageFactory(pool).GetPrototype(d))(described)
def masked(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8): crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
data = open(sys.argv[1], "rb").read()
events, at = [], 0
while at < len(data):
    head = data[at : at + 8]
    (length,), (check,) = struct.unpack("<Q", head), struct.unpack("<I", data[at + 8 : at + 12])
    body = data[at + 12 : at + 12 + length]
    assert check == masked(head) and struct.unpack("<I", data[at + 12 + length : at + 16 + length])[0] == masked(body)
    event = Event.FromString(body)
    assert not list(getattr(event, "UnknownFields", lambda: [])())
    events.append(MessageToDict(event, preserving_proto_field_name=True))
    at += 16 + length
json.dump(events, sys.stdout)
`;
import { describeUnless } from "../support/skip.js";

interface Event {
  wall_time: number;
  step?: string;
  summary?: { value: { tag: string; [field: string]: unknown }[] };
  [field: string]: unknown;
}

function eventsOf(file: string): Event[] {
  const { stdout, stderr, status } = spawnSync(python, ["-c", program, file], { encoding: "utf8" });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  return JSON.parse(stdout) as Event[];
}

test("CRC-32C has the check value of RFC 3720", () => {
  expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  expect(crc32c(new Uint8Array())).toBe(0);
});

test("a histogram counts every number once", () => {
  const values = [-2, -1, 0, 0.5, 4, NaN, Infinity];
  const { min, max, count, sum, squares, limits, counts } = histogramOf(values);
  expect({ min, max, count, sum, squares }).toEqual({ min: -2, max: 4, count: 5, sum: 1.5, squares: 21.25 });
  expect(counts.reduce((a, b) => a + b, 0)).toBe(5);
  expect(limits.at(-1)).toBe(4);
  expect([...limits].sort((a, b) => a - b)).toEqual(limits);
  expect(histogramOf([3, 3])).toMatchObject({ limits: [3], counts: [2] });
});

describeUnless(missing)("event files", () => {
  test("have what was written", () => {
    const folder = path.join(temporaryFolder(), "a/b");
    const before = Date.now() / 1000;
    let file: string;
    {
      using board = new TensorBoard(folder);
      ({ file } = board);
      board.scalar("größe/鯨", 1.5, 7);
      board.scalars({ a: -0.25, b: Infinity }, 2 ** 40);
      board.text("sample", "**Once** upon\na time", 8);
      board.histogram("weights", [1, 2, 2, 3], 9);
      const step = { step: 10, loss: 2, lr: 0.5, gradientNorm: null, skipped: false, tokensPerSecond: 100 };
      const rest = { progress: 0.5, secondsLeft: 1, lossScale: null, epoch: 0.1, memory: 1e6, mfu: null };
      board.event({ type: "step", ...step, ...rest });
      board.event({ type: "step", ...step, ...rest, gradientNorm: 3 });
      board.event({ type: "evaluation", step: 10, loss: 0, perplexity: 1, tokens: 5, best: true });
      board.event({ type: "checkpoint", step: 10, path: "x", best: false });
    }
    expect(path.basename(file)).toMatch(/^events\.out\.tfevents\.\d{10}\./);
    const [first, ...events] = eventsOf(file);
    expect(first).toMatchObject({ file_version: "brain.Event:2" });
    expect(first!.wall_time).toBeGreaterThanOrEqual(before - 1e-3);
    const tags = (event: Event): unknown[] => event.summary!.value.map(({ tag, ...rest }) => [tag, rest]);
    expect(events.map((event) => [event.step, ...tags(event)])).toEqual([
      ["7", ["größe/鯨", { simple_value: 1.5 }]],
      [String(2 ** 40), ["a", { simple_value: -0.25 }], ["b", { simple_value: "Infinity" }]],
      [
        ...["8"],
        [
          "sample",
          {
            tensor: {
              dtype: 7,
              tensor_shape: { dim: [{ size: "1" }] },
              string_val: [Buffer.from("**Once** upon\na time").toString("base64")],
            },
            metadata: { plugin_data: { plugin_name: "text" } },
          },
        ],
      ],
      ["9", ["weights", { histo: expect.objectContaining({ min: 1, max: 3, num: 4, sum: 8, sum_squares: 18 }) }]],
      [
        ...["10"],
        ...[
          ["loss/train", { simple_value: 2 }],
          ["learning rate", { simple_value: 0.5 }],
        ],
        ["tokens per second", { simple_value: 100 }],
      ],
      [
        ...["10"],
        ...[
          ["loss/train", { simple_value: 2 }],
          ["learning rate", { simple_value: 0.5 }],
        ],
        ...[
          ["gradient norm", { simple_value: 3 }],
          ["tokens per second", { simple_value: 100 }],
        ],
      ],
      ["10", ["loss/validation", { simple_value: 0 }], ["perplexity/validation", { simple_value: 1 }]],
    ]);
  });

  test("a session that is resumed replaces the steps after its own", () => {
    const folder = temporaryFolder();
    for (const step of [0, 5]) {
      using board = new TensorBoard(folder, { step });
      board.scalar("a", 1, step + 1);
    }
    const files = readdirSync(folder).sort();
    expect(files).toHaveLength(2);
    expect(eventsOf(path.join(folder, files[1]!))).toMatchObject([
      { file_version: "brain.Event:2" },
      { step: "6", session_log: { status: 1 } },
      { step: "6", summary: { value: [{ tag: "a", simple_value: 1 }] } },
    ]);
  });
});

test("bad arguments", () => {
  const folder = temporaryFolder();
  using board = new TensorBoard(folder);
  const { length } = readFileSync(board.file);
  for (const [call, code] of [
    [() => new TensorBoard(""), "ERR_ARGUMENT"],
    [() => new TensorBoard(folder, { step: -1 }), "ERR_RANGE"],
    [() => new TensorBoard(board.file), "ERR_IO"],
    [() => board.scalar("a", 1, 1.5), "ERR_RANGE"],
    [() => board.scalar("", 1, 1), "ERR_ARGUMENT"],
    [() => board.scalar("a", "1" as never, 1), "ERR_RANGE"],
    [() => board.text("a", 1 as never, 1), "ERR_ARGUMENT"],
    [() => board.histogram("a", [], 1), "ERR_ARGUMENT"],
    [() => board.histogram("a", "x" as never, 1), "ERR_ARGUMENT"],
  ] as const)
    expect(call).toThrow(expect.objectContaining({ code }));
  // What was refused has left nothing.
  expect(readFileSync(board.file)).toHaveLength(length);
});
