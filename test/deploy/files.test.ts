/** The files of examples/deploy, as far as they can be checked without Docker, Kubernetes and systemd. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { execute, heed } from "../cli/support.js";
import { chatModel, start } from "../server/support.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const read = (name: string): string => readFileSync(path.join(root, "examples/deploy", name), "utf8");
const { bin } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")) as {
  bin: { heed: string };
};
/** The path of the program in a folder in which heed is installed. */
const program = `node_modules/heed/${bin.heed}`;
/** Lines of the Dockerfile, without comments; continued lines are one. */
const instructions = read("Dockerfile")
  .replaceAll("\\\n", " ")
  .split("\n")
  .filter((line) => line !== "" && !line.startsWith("#"))
  .map((line) => line.replaceAll(/\s+/g, " "));
const instruction = (name: string): string =>
  instructions.findLast((line) => line.startsWith(`${name} `))!.slice(name.length + 1);

interface Probe {
  httpGet: { path: string; port: string };
}

interface Deployment {
  kind: string;
  metadata: { name: string };
  spec: {
    selector: { matchLabels: object };
    template: {
      metadata: { labels: object };
      spec: {
        terminationGracePeriodSeconds: number;
        containers: {
          args: string[];
          ports: { name: string; containerPort: number }[];
          lifecycle: { preStop: { exec: { command: string[] } } };
          startupProbe: Probe;
          readinessProbe: Probe;
          livenessProbe: Probe;
        }[];
      };
    };
  };
}

interface Service {
  kind: string;
  spec: { selector: object; ports: { targetPort: string }[] };
}

const documents = parseAllDocuments(read("kubernetes.yaml"));
const [deployment, service] = documents.map((document) => document.toJS() as unknown) as [Deployment, Service];
const pod = deployment.spec.template.spec;
const [container] = pod.containers;

test("the flags exist", async () => {
  const { stdout: help } = await heed(["serve", "--help"]);
  const [, unit] = /^ExecStart=(.*)$/m.exec(read("heed@.service"))!;
  const given = [...container!.args, ...(JSON.parse(instruction("ENTRYPOINT")) as string[]), ...unit!.split(" ")];
  const flags = given.flatMap((word) => /^--[a-z-]+/.exec(word) ?? []);
  expect(flags.length).toBeGreaterThan(10);
  for (const flag of flags) expect(help).toContain(`${flag} <`);
});

test("the Dockerfile installs heed and starts heed without a shell, not as root", () => {
  expect(instructions.find((line) => line.startsWith("RUN npm install"))!.split(" ")).toContain("heed");
  expect(JSON.parse(instruction("ENTRYPOINT"))).toEqual(expect.arrayContaining(["node", program, "serve"]));
  expect(instruction("USER")).toBe("node");
  expect(instructions.indexOf("USER node")).toBeLessThan(
    instructions.findIndex((line) => line.startsWith("ENTRYPOINT")),
  );
  expect(read("heed@.service")).toContain(`/usr/bin/node ${program} serve`);
});

test("the health check tells a server that runs from none, and probes need no key", async () => {
  using model = chatModel();
  const { url, close } = await start({ models: { tiny: model }, apiKeys: ["alpha"] });
  const [command, flag, code] = JSON.parse(/CMD (.*)/.exec(instruction("HEALTHCHECK"))![1]!) as [
    string,
    string,
    string,
  ];
  expect([command, flag]).toEqual(["node", "-e"]);
  expect(code).toContain("http://127.0.0.1:8080/");
  const check = () => execute(process.execPath, [flag, code.replace("http://127.0.0.1:8080", url)]);
  expect((await check()).code).toBe(0);
  for (const probe of [container!.startupProbe, container!.readinessProbe, container!.livenessProbe])
    expect((await fetch(url + probe.httpGet.path)).status).toBe(200);
  await close();
  expect((await check()).code).toBe(1);
});

test("the manifest is consistent, and a pod has time to drain", () => {
  expect(documents.flatMap(({ errors, warnings }) => [...errors, ...warnings])).toEqual([]);
  expect([deployment.kind, service.kind]).toEqual(["Deployment", "Service"]);
  expect(deployment.spec.selector.matchLabels).toEqual(deployment.spec.template.metadata.labels);
  expect(service.spec.selector).toEqual(deployment.spec.template.metadata.labels);
  const [port] = container!.ports;
  expect([service.spec.ports[0]!.targetPort, container!.readinessProbe.httpGet.port]).toEqual([port!.name, port!.name]);
  expect(instruction("ENTRYPOINT")).toContain(`"--port", "${port!.containerPort}"`);
  const drain = Number(/--drain-seconds=(\d+)/.exec(container!.args.join(" "))![1]);
  const [, sleep] = container!.lifecycle.preStop.exec.command;
  expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(drain + Number(sleep));
  const [, stop] = /TimeoutStopSec=(\d+)/.exec(read("heed@.service"))!;
  expect(Number(stop)).toBeGreaterThan(Number(/--drain-seconds (\d+)/.exec(read("heed@.service"))![1]));
});
