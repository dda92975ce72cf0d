import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Builder } from "../../src/host/builder/builder.ts";
import { BuildError } from "../../src/host/host-client.ts";
import { checkFilesystem, readFrom, sha256Of, statFrom, Workshop, whyNoBuilds } from "./fixture.ts";
import { zipOf } from "./zip-bytes.ts";

const missing = await whyNoBuilds();
if (missing !== undefined) console.warn(`skipping real image builds: ${missing}`);

describe.skipIf(missing !== undefined)("a build", () => {
  let shop: Workshop;
  let builder: Builder;
  beforeAll(async () => {
    shop = await Workshop.open();
    builder = shop.builder();
    await shop.attempt(builder, { Dockerfile: "FROM debian:bookworm\nCMD true" }); // brings the base images in
  });
  afterEach(async () => expect(await shop.leftovers()).toEqual([]));
  afterAll(() => shop?.[Symbol.asyncDispose]());

  const refusal = async (...args: [Parameters<Workshop["attempt"]>[1], Parameters<Workshop["attempt"]>[2]?]) => {
    const err = await shop.attempt(builder, ...args).then(
      () => expect.unreachable("it was built"),
      (reason: unknown) => reason,
    );
    if (!(err instanceof BuildError)) throw err;
    return err;
  };

  test("makes a file system and says how the image is run", async () => {
    const { image, disk, log, phases } = await shop.attempt(
      builder,
      {
        Dockerfile: `
          ARG BASE=bookworm
          FROM debian:\${BASE} AS tools
          ARG BASE
          RUN echo "base $BASE" >/base.txt && mkdir /d && echo deep >/d/deep.txt
          SHELL ["/bin/bash", "-c"]
          RUN [[ $0 == /bin/bash ]] && echo bash >/shell.txt

          FROM public.ecr.aws/lambda/microvms:al2023-minimal
          LABEL who=me
          ENV GREETING="hello world" DIR=/srv
          WORKDIR $DIR/app
          COPY --from=tools /base.txt /shell.txt ./
          COPY --from=0 --chown=7:8 --chmod=640 /d ./d
          COPY --link *.txt ./
          COPY . all/
          ADD some.tar unpacked/
          COPY <<one <<two ./
content of one
one
content of two
two
          RUN <<EOF
set -eu
useradd --uid 1234 app
install -m 4755 /bin/true /usr/local/bin/setuid
echo "$GREETING" >greeting
python3 -c 'import http.server, ssl, sqlite3'
python --version
EOF
          RUN --mount=type=bind,source=a.txt,target=/m/a.txt --mount=type=tmpfs,target=/t cp /m/a.txt bound.txt && touch /t/x
          RUN --mount=type=bind,from=tools,source=/d,target=/m cp /m/deep.txt from-stage.txt
          RUN --network=none cat /proc/net/dev >network
          VOLUME /data
          EXPOSE 8080 9000/udp
          HEALTHCHECK CMD true
          STOPSIGNAL SIGINT
          USER app
          ENTRYPOINT ["python3", "-m"]
          CMD ["http.server", "8080"]
`.replaceAll(/^ {10}/gm, ""),
        "a.txt": "A",
        "b.txt": "B",
        ".dockerignore": "ignored/\n*.secret\n!kept.secret\n",
        "ignored/x": "x",
        "y.secret": "y",
        "kept.secret": "kept",
        "some.tar": await tarOf("in-tar.txt", "from a tar"),
      },
      { environment: { GREETING: "from the image's settings", AWS_REGION: "us-east-1" } },
    );
    expect(phases).toEqual(["unpack", "container", "filesystem"]);
    expect(log).toMatch(/al2023-minimal is not on this host\. A stand-in is used: Debian GNU\/Linux 12/);
    expect(image.container).toEqual({
      argv: ["python3", "-m", "http.server", "8080"],
      env: [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "GREETING=from the image's settings",
        "DIR=/srv",
        "AWS_REGION=us-east-1",
      ],
      user: "app",
      workdir: "/srv/app",
      exposedPorts: [8080],
      stopSignal: "SIGINT",
    });
    const contents: Record<string, string> = {
      "base.txt": "base bookworm\n",
      "shell.txt": "bash\n",
      "d/deep.txt": "deep\n",
      "a.txt": "A",
      "all/b.txt": "B",
      "all/kept.secret": "kept",
      "unpacked/in-tar.txt": "from a tar",
      one: "content of one\n",
      two: "content of two\n",
      greeting: "hello world\n",
      "bound.txt": "A",
      "from-stage.txt": "deep\n",
    };
    for (const [path, content] of Object.entries(contents))
      expect(await readFrom(disk, `/srv/app/${path}`), path).toBe(content);
    for (const ignored of ["ignored/x", "y.secret"]) expect(await readFrom(disk, `/srv/app/all/${ignored}`)).toBe("");
    expect(await readFrom(disk, "/srv/app/network")).not.toMatch(/^ *(eth|ens|enp|veth)/m);
    expect(await statFrom(disk, "/srv/app/d/deep.txt")).toBe("0640 7 8");
    expect(await statFrom(disk, "/usr/local/bin/setuid")).toBe("04755 0 0");
    expect(await statFrom(disk, "/")).toBe("0755 0 0");
    const checked = await checkFilesystem(disk);
    expect(checked).toMatch(/ITABLE_ZEROED/);
    expect(checked).not.toMatch(/^Group(?!.*ITABLE_ZEROED)/m);
    const { size, blocks, uid, mode } = await stat(disk);
    expect([size, uid, mode & 0o777]).toEqual([8 * 2 ** 30, 0, 0o600]);
    expect(image.rootfsBytes).toBe(blocks * 512);
    expect(blocks * 512).toBeLessThan(270 << 20);
  });

  test("that has not changed takes its layers from the cache and gives the same bytes", async () => {
    const files = {
      Dockerfile: "FROM debian:bookworm\nCOPY a.txt /a\nRUN date +%N >/when\nCMD cat /when",
      "a.txt": "A",
    };
    const first = await shop.attempt(builder, files, { diskGib: 1 });
    const second = await shop.attempt(builder, files, { diskGib: 1, environment: { VERSION: "2" } });
    expect(first.image.receipt.reused).toEqual([]);
    expect(second.image.receipt.reused).toEqual(["layer cache"]);
    expect(second.log).toMatch(/Using cache/);
    expect(await sha256Of(second.disk)).toBe(await sha256Of(first.disk));
    const third = await shop.attempt(builder, { ...files, "a.txt": "changed" });
    expect(await readFrom(third.disk, "/a")).toBe("changed");
    expect(third.image.receipt.reused).toEqual([]);
  });

  test("keeps byte code that an earlier step compiled valid", async () => {
    const { log } = await shop.attempt(builder, {
      Dockerfile: `FROM python:3.11
RUN mkdir /m && echo x=1 >/m/mod.py && cd /m && python3 -c 'import mod'
RUN cd /m && python3 -v -c 'import mod, http.server' 2>&1 | grep -E 'matches /m/mod.py|matches /usr/lib/python3.11/http/server.py'
CMD true`,
    });
    expect(log).toMatch(/mod\.cpython-311\.pyc matches \/m\/mod\.py/);
  });

  test("gives each account a cache of its own", async () => {
    const Dockerfile =
      "FROM debian:bookworm\nRUN --mount=type=cache,target=/c echo x >>/c/n; wc -l </c/n >/count\nCMD true";
    const build = async (account: string, extra: string) =>
      readFrom(
        (await shop.attempt(builder, { Dockerfile: Dockerfile.replace("RUN", `ENV X=${extra}\nRUN`) }, { account }))
          .disk,
        "/count",
      );
    expect(await Promise.all([build("111111111111", "a"), build("222222222222", "a")])).toEqual(["1\n", "1\n"]);
    expect(await build("111111111111", "b")).toBe("2\n");
  });

  test("from scratch holds what was copied and nothing else", async () => {
    const { disk, image } = await shop.attempt(builder, {
      Dockerfile: 'FROM debian:bookworm AS b\nFROM scratch\nCOPY --from=b /bin/true /app\nUSER 1000\nCMD ["/app"]',
    });
    expect(image.container).toMatchObject({ argv: ["/app"], user: "1000", env: [expect.stringMatching(/^PATH=/)] });
    expect(await statFrom(disk, "/app")).toBe("0755 0 0");
    expect(await readFrom(disk, "/etc/passwd")).toBe("");
  });

  describe("fails, and says where and why, when", () => {
    const cases: [what: string, dockerfile: string, code: string, reason: RegExp][] = [
      [
        "a step fails",
        "FROM debian:bookworm\n\nRUN echo before; printf 'a\\033[31mb\\n'; exit 3\nCMD true",
        "CONTAINER_BUILD_FAILED",
        /^The container image build failed\. Dockerfile:3: RUN failed with exit status 3\. Its last output:\nbefore\na\\x1b\[31mb$/,
      ],
      [
        "a file to copy is not there",
        "FROM debian:bookworm\nCOPY nope /x\nCMD true",
        "CONTAINER_BUILD_FAILED",
        /Dockerfile:2: COPY failed: .*nope.*no such file/,
      ],
      [
        "a base is not there",
        "FROM nosuch/thing:1\nCMD true",
        "CONTAINER_BUILD_FAILED",
        /Dockerfile:1: base image "nosuch\/thing:1" is not available on this host\. Available: .*debian:bookworm/,
      ],
      [
        "there is nothing to run",
        "FROM debian:bookworm\nRUN true",
        "CONTAINER_BUILD_FAILED",
        /neither ENTRYPOINT nor CMD/,
      ],
      [
        "the user is unknown",
        "FROM debian:bookworm\nUSER nobody2\nCMD true",
        "CONTAINER_BUILD_FAILED",
        /USER "nobody2": the image has no user "nobody2" in \/etc\/passwd/,
      ],
      [
        "a step eats all memory",
        "FROM debian:bookworm\nRUN python3 -c 'x = bytearray(3 << 30)'\nCMD true",
        "CONTAINER_BUILD_FAILED",
        /Dockerfile:2: RUN failed with exit status \d+\. Builds have 1024 MiB of memory, and it ran out/,
      ],
      [
        "a step kills everything that it can see",
        "FROM debian:bookworm\nRUN kill -9 -1; sleep 10\nCMD true",
        "CONTAINER_BUILD_FAILED",
        /Dockerfile:2: RUN failed: buildah ended with exit status 137/,
      ],
      [
        "a step writes one file without end",
        "FROM debian:bookworm\nRUN dd if=/dev/zero of=/big bs=1M count=100000\nCMD true",
        "DISK_STORAGE_FULL",
        /./,
      ],
      [
        "a step writes files without end",
        "FROM debian:bookworm\nRUN for i in $(seq 1000); do head -c 200M /dev/zero >/f$i; done\nCMD true",
        "DISK_STORAGE_FULL",
        /the build wrote more than 1024 MiB/,
      ],
    ];
    test.each(cases)("%s", async (_what, Dockerfile, code, reason) => {
      const err = await refusal({ Dockerfile }, { diskGib: 1 });
      expect(err.message).toMatch(reason);
      expect(err.code).toBe(code);
    });

    test("the image does not fit on its disk", async () => {
      const steps = [1, 2, 3].map((i) => `RUN head -c 350M /dev/urandom >/f${i}`).join("\n");
      const err = await refusal({ Dockerfile: `FROM debian:bookworm\n${steps}\nCMD true` }, { diskGib: 1 });
      expect(err.code).toBe("DISK_STORAGE_FULL");
    });

    test("it takes too long", async () => {
      const slow = shop.builder({}, { buildTimeoutSeconds: 3 });
      const err = await shop
        .attempt(slow, {
          Dockerfile: "FROM debian:bookworm\nRUN sleep 1000 & setsid sleep 1001 & sleep 1002\nCMD true",
        })
        .catch((reason: unknown) => reason);
      expect(err).toBeInstanceOf(BuildError);
      expect(err instanceof Error && err.message).toMatch(/It took longer than 3 seconds/);
    });
  });

  test("that bombs with forks is stopped by its limit, and goes on", async () => {
    const { log } = await shop.attempt(builder, {
      Dockerfile:
        "FROM debian:bookworm\nRUN i=0; while [ $i -lt 1000 ]; do sleep 2 & i=$((i+1)); done 2>&1 | tail -1; true\nCMD true",
    });
    expect(log).toMatch(/[Cc]annot fork/);
  });

  test("that prints without end fills neither log nor memory", async () => {
    const chatty = shop.builder({ logBytes: 100_000 });
    const { log } = await shop.attempt(chatty, {
      Dockerfile: "FROM debian:bookworm\nRUN yes 'some line or other' | head -c 50M\nCMD true",
    });
    expect(log.length).toBeLessThan(101_000);
    expect(log).toMatch(/the build log ends here/);
  });

  test("sees of the host neither files, processes, devices, network nor users, and cannot become more", async () => {
    await writeFile(join(shop.dataDir, "host-secret"), "host-secret");
    const { log } = await shop.attempt(builder, {
      Dockerfile: `FROM debian:bookworm AS s
RUN ln -s /etc /evil && ln -s / /root-link
FROM debian:bookworm
RUN echo "uids $(tr -s ' ' </proc/self/uid_map)"
RUN echo "processes $(ls -d /proc/[0-9]* | wc -l)"
RUN echo "devices $(ls /dev | tr '\\n' ' ')"
RUN echo "interfaces $(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d '\\n ')"
RUN (echo 1 >/proc/sys/vm/drop_caches) 2>&1 || echo "sysctl refused"
RUN mount -t tmpfs x /mnt 2>&1 || echo "mount refused"
RUN mknod /sda b 8 0 2>&1 || echo "mknod refused"
RUN unshare -U true 2>&1 || echo "user namespace refused"
RUN echo "environment $(env | cut -d= -f1 | sort | tr '\\n' ' ')"
RUN echo "found $(find / -name host-secret 2>/dev/null | wc -l)"
RUN --mount=type=bind,from=s,source=/evil,target=/m echo "passwd $(cat /m/passwd | wc -l)"
RUN --mount=type=bind,from=s,source=/root-link,target=/m echo "found $(find /m -name host-secret 2>/dev/null | wc -l)"
CMD true`,
    });
    for (const seen of [
      /uids +0 300000 65536/,
      /devices fd full null ptmx pts random shm stderr stdin stdout tty urandom zero/,
      /interfaces lo$/m,
      /sysctl refused/,
      /mount refused/,
      /mknod refused/,
      /user namespace refused/,
      /environment HOME HOSTNAME PATH PWD/,
    ])
      expect(log).toMatch(seen);
    expect(Number(/processes (\d+)/.exec(log)?.[1])).toBeLessThan(20);
    expect(log).not.toMatch(/found [1-9]/);
    const hostUsers = (await readFile("/etc/passwd", "utf8")).split("\n").length - 1;
    expect(log).not.toContain(`passwd ${hostUsers}\n`);
  });

  test("can be given a network namespace, or the host's network", async () => {
    const Dockerfile =
      "FROM debian:bookworm\nRUN tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' >/interfaces\nCMD true";
    const host = shop.builder({}, { buildNetwork: "host" });
    const { disk } = await shop.attempt(host, { Dockerfile }, { account: "333333333333" });
    const names = (await readFile("/proc/net/dev", "utf8"))
      .split("\n")
      .slice(2, -1)
      .map((line) => line.split(":")[0]?.trim());
    expect((await readFrom(disk, "/interfaces")).trim().split("\n").sort()).toEqual(names.sort());
    const slotted = await shop.attempt(
      builder,
      { Dockerfile: `${Dockerfile}\n# slot` },
      { account: "444444444444", slot: { netns: "/proc/self/ns/net" } },
    );
    expect((await readFrom(slotted.disk, "/interfaces")).trim().split("\n").sort()).toEqual(names.sort());
  });

  test("that is aborted ends with everything in it, and the next one is as if it had not been", async () => {
    const abort = new AbortController();
    const reason = new Error("no longer wanted");
    const building = shop.attempt(
      builder,
      { Dockerfile: "FROM debian:bookworm\nRUN echo begun; sleep 1000 & setsid sleep 1001 & sleep 1002\nCMD true" },
      { signal: abort.signal, onLog: (log) => log.includes("\nbegun") && abort.abort(reason) },
    );
    await expect(building).rejects.toBe(reason);
    expect(await shop.leftovers()).toEqual([]);
    await shop.attempt(builder, { Dockerfile: "FROM debian:bookworm\nRUN echo again\nCMD true" });
  });

  test("whose daemon is killed leaves nothing, after recovery not even in its store", async () => {
    const artifact = join(shop.dataDir, "killed.zip");
    await writeFile(artifact, zipOf({ Dockerfile: "FROM debian:bookworm\nRUN echo begun; sleep 1000\nCMD true" }));
    const daemon = spawn(
      process.execPath,
      [join(import.meta.dirname, "build-once.ts"), shop.dataDir, artifact, join(shop.dataDir, "killed.ext4")],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    for await (const chunk of daemon.stdout) if (String(chunk).includes("begun")) break;
    expect(await shop.leftovers()).not.toEqual([]);
    const gone = once(daemon, "exit");
    daemon.kill("SIGKILL");
    await gone;
    const next = shop.builder();
    await next.recover();
    expect(await shop.leftovers()).toEqual([]);
    expect(await readdir(join(shop.dataDir, "build/999999999999"))).toEqual(["store.ext4"]);
    const { image } = await shop.attempt(
      next,
      { Dockerfile: "FROM debian:bookworm\nRUN echo begun\nCMD true" },
      { account: "999999999999" },
    );
    expect(image.container.argv).toEqual(["/bin/sh", "-c", "true"]);
  });

  test("whose host went down in the middle costs the cache, and nothing else", async () => {
    const files = { Dockerfile: "FROM debian:bookworm\nRUN echo x >/x\nCMD true" };
    const account = "555555555555";
    await shop.attempt(builder, files, { account });
    expect((await shop.attempt(builder, files, { account })).image.receipt.reused).toEqual(["layer cache"]);
    await writeFile(join(shop.dataDir, "build", account, "in-use"), "another boot of this host");
    expect((await shop.attempt(builder, files, { account })).image.receipt.reused).toEqual([]);
  });

  test("with a network fetches what ADD names", async () => {
    const server = createServer((_, res) => res.end("fetched"));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const address = server.address();
      const port = typeof address === "object" ? address?.port : undefined;
      const host = shop.builder({}, { buildNetwork: "host" });
      const { disk } = await shop.attempt(host, {
        Dockerfile: `FROM debian:bookworm\nADD http://127.0.0.1:${port}/x /x\nCMD true`,
      });
      expect(await readFrom(disk, "/x")).toBe("fetched");
    } finally {
      server.close();
    }
  });

  test("of an archive that is not one, or of a hostile one, leaves nothing", async () => {
    expect((await refusal(Buffer.from("no zip"))).code).toBe("ARCHIVE_INVALID");
    expect((await refusal(zipOf({ "../evil": "x", Dockerfile: "FROM scratch" }))).code).toBe("ARCHIVE_INVALID");
    expect((await refusal(zipOf({ "app/Dockerfile": "FROM scratch" }))).code).toBe("ARCHIVE_DOCKERFILE_NOT_FOUND");
  });
});

async function tarOf(name: string, content: string): Promise<Buffer> {
  const header = Buffer.alloc(512);
  header.write(name, 0);
  header.write("0000644\0", 100);
  header.write("0000000\0", 108);
  header.write("0000000\0", 116);
  header.write(`${content.length.toString(8).padStart(11, "0")}\0`, 124);
  header.write("00000000000\0", 136);
  header.write("        0", 148);
  header.write("ustar\x0000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  const body = Buffer.alloc(512 * Math.ceil(content.length / 512));
  body.write(content);
  return Buffer.concat([header, body, Buffer.alloc(1024)]);
}
