// Makes the folder build/sysroot/PLATFORM, the C and C++ libraries that cmake/PLATFORM.cmake builds with. They are those
// of Debian 11, the oldest release that Debian's mirrors still have. It needs debootstrap and does nothing if the folder
// exists.
//
//   node scripts/sysroot.mjs linux-x64 | linux-arm64
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readlinkSync, renameSync, rmSync, symlinkSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const release = "bullseye";
/** Debian's names of the platforms. */
const architectures = { "linux-x64": "amd64", "linux-arm64": "arm64" };
/** Packages that make up the sysroot; the C++ library's name contains the version of the compiler that it belongs to. */
const packages =
  /^(libc6|libc6-dev|libcrypt1|libcrypt-dev|linux-libc-dev|libgcc-s1|libstdc\+\+6|lib(gcc|stdc\+\+)-10-dev)_/;

function run(command, args) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command} failed: ${error?.message ?? `${stdout}${stderr}`}`);
}

/** Makes links relative that begin at the root of the file system: they mean the sysroot's root. */
function keepInside(folder) {
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const link = path.join(entry.parentPath, entry.name);
    const target = entry.isSymbolicLink() ? readlinkSync(link) : "";
    if (!path.isAbsolute(target)) continue;
    rmSync(link);
    symlinkSync(path.relative(path.dirname(link), path.join(folder, target)), link);
  }
}

/** Makes the sysroot of a platform unless it is there, and returns its folder. */
export function sysroot(platform) {
  const architecture = architectures[platform];
  if (!architecture) throw new Error(`expected ${Object.keys(architectures).join(" or ")}, got ${platform}`);
  const folder = path.join(root, "build/sysroot", platform);
  if (existsSync(folder)) return folder;
  const [download, unpacked] = [`${folder}.download`, `${folder}.unpacked`];
  for (const old of [download, unpacked]) rmSync(old, { recursive: true, force: true });
  mkdirSync(unpacked, { recursive: true });
  const wanted = ["--download-only", "--variant=minbase", `--arch=${architecture}`, "--include=libstdc++-10-dev"];
  run("debootstrap", [...wanted, release, download]);
  const archives = path.join(download, "var/cache/apt/archives");
  for (const name of readdirSync(archives).filter((name) => packages.test(name)))
    run("dpkg-deb", ["-x", path.join(archives, name), unpacked]);
  keepInside(unpacked);
  rmSync(download, { recursive: true });
  renameSync(unpacked, folder);
  return folder;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const platform of process.argv.slice(2)) console.log(`sysroot: ${path.relative(root, sysroot(platform))}`);
}
