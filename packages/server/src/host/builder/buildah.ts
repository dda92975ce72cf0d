import { posix } from "node:path";

/** Where things are in the jail. */
export const IN_JAIL = {
  /** The unpacked artifact, read-only; buildah gets a writable view of it at the second place. */
  artifact: "/artifact",
  context: "/context",
  dockerfile: "/build/Dockerfile",
  baseStore: "/base",
  baseTar: "/base.tar",
  rootfs: "/out/rootfs.ext4",
  inspect: "/out/image.json",
  passwd: "/out/passwd",
  group: "/out/group",
  store: "/out/store.ext4",
} as const;

/** What a store's newest image is called. One build a store at a time: the name is free again when it ends. */
const IMAGE = "localhost/torpor-build:latest";

/** Shell functions that all scripts begin with. Nothing that a user chose is ever part of a script, only of its $1 … */
const PRELUDE = `set -eu
b() { buildah --root /w/root --runroot /run/buildah --storage-driver overlay $BASES "$@"; }
mkdir -p /w/tmp
`;
const script = (text: string, ...args: string[]): string[] => ["sh", "-c", PRELUDE + text, "sh", ...args];

/** Environment of every program in the jail that uses a store. */
export const storeEnv = {
  TMPDIR: "/w/tmp",
  BASES: `--storage-opt overlay.imagestore=${posix.join(IN_JAIL.baseStore, "root")}`,
  // mke2fs writes it instead of the time: the same tree gives the same bytes.
  E2FSPROGS_FAKE_TIME: "1700000000",
};

/** As above, for the store that holds the base images itself. */
export const baseStoreEnv = { ...storeEnv, BASES: "" };

/** Makes an image of the tar at IN_JAIL.baseTar, known by all the references. */
export function importBase(references: readonly string[]): string[] {
  return script(
    `container=$(b from scratch)
b add -q "$container" ${IN_JAIL.baseTar} / >/dev/null
b config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
b commit -q --format docker --timestamp 1700000000 --identity-label=false --disable-compression --rm "$container" "$1" >/dev/null
first=$1
shift
[ $# = 0 ] || b tag "$first" "$@"
rm -rf /w/tmp
sync -f /w`,
    ...references,
  );
}

/**
 * Builds the Dockerfile. Not with --timestamp: it would set the times of files back after each step, and with that make
 * worthless what Python and make had compiled in it. Equal content is found in the layer cache all the same.
 */
export function buildImage(ignoreFile: string | undefined): string[] {
  return script(
    // buildah opens what it bind-mounts for writing. The changes belong in the store, where they are counted.
    `rm -rf /w/tmp/context && mkdir -p ${IN_JAIL.context} /w/tmp/context/upper /w/tmp/context/work
mount -t overlay overlay -o lowerdir=${IN_JAIL.artifact},upperdir=/w/tmp/context/upper,workdir=/w/tmp/context/work ${IN_JAIL.context}
exec buildah --root /w/root --runroot /run/buildah --storage-driver overlay $BASES build "$@" ${IN_JAIL.context}`,
    "--isolation=chroot",
    "--format=docker",
    "--pull-never",
    "--layers",
    "--force-rm",
    "--jobs=1",
    "--identity-label=false",
    "--ulimit=nofile=1024:4096",
    ...(ignoreFile === undefined ? [] : [`--ignorefile=${posix.join(IN_JAIL.context, ignoreFile)}`]),
    `--tag=${IMAGE}`,
    `--file=${IN_JAIL.dockerfile}`,
  );
}

/** Fixed, so that the same tree gives the same bytes; no two of these file systems meet in one machine. */
const ROOTFS_UUID = "0f2b4c1e-7a55-4d0e-9b36-746f72706f72";

/**
 * The image's configuration, its tree as an ext4 file system, and its users as the finished file system has them: read
 * from there, no link can lead out of it. The journal is as small as it can be: microvms are long-lived, disks are many.
 * The file has its full size already: only then does mke2fs know that it is zero, and no guest's kernel has to write
 * its inode tables out.
 */
export function makeFilesystem(diskGib: number): string[] {
  return script(
    `b inspect --type image ${IMAGE} >${IN_JAIL.inspect}
container=$(b from --pull-never ${IMAGE})
tree=$(b mount "$container")
mke2fs -q -F -t ext4 -b 4096 -m 0 -O ^resize_inode -J size=4 -U ${ROOTFS_UUID} \\
  -E hash_seed=${ROOTFS_UUID},root_owner=0:0 -d "$tree" ${IN_JAIL.rootfs} "$1"
b rm "$container" >/dev/null
debugfs -R 'cat /etc/passwd' ${IN_JAIL.rootfs} >${IN_JAIL.passwd} 2>/dev/null
debugfs -R 'cat /etc/group' ${IN_JAIL.rootfs} >${IN_JAIL.group} 2>/dev/null`,
    `${diskGib}G`,
  );
}

/** Removes what a killed build left in its store; cached layers stay. */
export const cleanStore: string[] = script("b rm -a >/dev/null\nrm -rf /w/tmp/buildah[0-9]*");

/** An empty store on IN_JAIL.store, which is as large as it is to be. No journal: it is a cache. */
export function makeStore(uid: number): string[] {
  return [
    ...["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-O", "^has_journal,^resize_inode"],
    ...["-E", `root_owner=${uid}:${uid}`, IN_JAIL.store],
  ];
}
