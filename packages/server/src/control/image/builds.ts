import { randomUUID } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { BlobSource } from "../../blobs/blob-store.ts";
import type { Config } from "../../config.ts";
import type { HostClient, TemplateSpec } from "../../host/host-client.ts";
import type { Clock } from "../../lib/clock.ts";
import { messageOf } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.ts";
import type { Build, BuildOutcome, Image, ImageVersion } from "../../store/image.ts";
import type { Store } from "../../store/store.ts";
import type { BuildOutput } from "../logs/build-output.ts";
import { documentOf } from "../role/guest-credentials.ts";
import type { Roles } from "../role/roles.ts";
import type { Tasks } from "../tasks.ts";
import { untilStored } from "../until-stored.ts";
import { fetchArtifact } from "./artifact.ts";
import type { BuildLog, BuildLogs } from "./build-log.ts";
import { BUILD_INTERRUPTED, buildFailureReason, lastWords } from "./build-reason.ts";
import { injectedEnvironment } from "./environment.ts";
import { buildHooks } from "./hooks.ts";

/** Of one version: the first and, when the end of the server has cut it short, another. */
const BUILDS_MAX = 2;

export interface BuildDeps {
  readonly config: Pick<Config, "region" | "dataDir" | "maxConcurrentBuilds" | "maxArtifactBytes">;
  readonly store: Pick<Store, "images">;
  readonly host: Pick<HostClient, "buildTemplate" | "deleteTemplate">;
  readonly roles: Pick<Roles, "lack" | "credentials">;
  readonly blobs: BlobSource;
  readonly logs: BuildLogs;
  readonly output: BuildOutput;
  readonly clock: Clock;
  readonly tasks: Tasks;
  readonly log: Log;
  /** Aborted when the server closes; what is being built then fails at the next start. */
  readonly shutdown: AbortSignal;
}

/** Image builds in the background: a few at once, the others in a queue. */
export class Builds {
  readonly #deps: BuildDeps;
  readonly #waiting: Build[] = [];
  #running = 0;

  constructor(deps: BuildDeps) {
    this.#deps = deps;
  }

  /** Takes a build that is written as PENDING. */
  enqueue(build: Build): void {
    this.#waiting.push(build);
    this.#next();
  }

  /**
   * What an earlier server left: builds that it had begun are begun anew, once; the others are begun now. A template
   * that was half made goes before its build is written off, so that none is forgotten.
   */
  async recover(): Promise<void> {
    const { store, clock, log } = this.#deps;
    await rm(this.#incoming(), { recursive: true, force: true });
    for (const build of await store.images.unfinishedBuilds()) {
      if (build.state === "PENDING") {
        this.enqueue(build);
        continue;
      }
      await this.#removeTemplate(build);
      const at = new Date(clock.now());
      const before = await store.images.builds(build.imageArn, build.version);
      if (before.length >= BUILDS_MAX) {
        await store.images.settleBuild(build, { kind: "failed", reason: BUILD_INTERRUPTED }, at);
        log.warn({ buildId: build.id }, "interrupted build failed");
        continue;
      }
      const again = anew(build, at);
      await store.images.retryBuild(build, BUILD_INTERRUPTED, again, at);
      this.enqueue(again);
      log.warn({ buildId: build.id, again: again.id }, "interrupted build is begun anew");
    }
  }

  /** Whatever the host has of a build that came to nothing. */
  async #removeTemplate(build: Build): Promise<void> {
    try {
      await this.#deps.host.deleteTemplate(build.id);
    } catch (err) {
      this.#deps.log.error({ err, buildId: build.id }, "template of a failed build not removed");
    }
  }

  #next(): void {
    const { config, tasks, shutdown } = this.#deps;
    while (this.#running < config.maxConcurrentBuilds && !shutdown.aborted) {
      const build = this.#waiting.shift();
      if (!build) return;
      this.#running++;
      tasks.start("build", () =>
        this.#run(build).finally(() => {
          this.#running--;
          this.#next();
        }),
      );
    }
  }

  async #run(build: Build): Promise<void> {
    const { store, clock, logs, output, log, shutdown } = this.#deps;
    await untilStored(() => store.images.startBuild(build, new Date(clock.now())), this.#deps);
    const image = await store.images.find(build.imageArn);
    const version = await store.images.findVersion(build.imageArn, build.version);
    if (!image || !version) throw new Error(`build ${build.id} belongs to no image`);
    log.info({ buildId: build.id, imageArn: image.arn }, "build started");
    const buildLog = await logs.begin(build.id, output.copyFor(image, version, build));
    let outcome: BuildOutcome;
    let words = "done";
    try {
      outcome = await this.#make(build, image, version, buildLog);
    } catch (err) {
      words = shutdown.aborted ? "interrupted: the server is closing" : lastWords(err);
      if (shutdown.aborted) return; // the next start writes it off
      log.warn({ err, buildId: build.id }, "build failed");
      outcome = { kind: "failed", reason: buildFailureReason(err) };
      await this.#removeTemplate(build);
    } finally {
      buildLog.close(words);
    }
    await untilStored(() => store.images.settleBuild(build, outcome, new Date(clock.now())), this.#deps);
    log.info({ buildId: build.id, imageArn: image.arn, outcome: outcome.kind }, "build ended");
  }

  async #make(build: Build, image: Image, version: ImageVersion, log: BuildLog): Promise<BuildOutcome> {
    const { blobs, clock, config, host, shutdown } = this.#deps;
    const { configuration } = version;
    const artifactPath = join(this.#incoming(), `${build.id}.zip`);
    await mkdir(this.#incoming(), { recursive: true, mode: 0o700 });
    try {
      log.write(`==> fetch ${configuration.codeArtifactUri}\n`);
      await fetchArtifact(
        configuration.codeArtifactUri,
        artifactPath,
        { blobs, accountId: image.accountId, clock, maxBytes: config.maxArtifactBytes },
        shutdown,
      );
      const role = await this.#role(configuration.buildRoleArn, log);
      const spec: TemplateSpec = {
        ...role,
        templateId: build.id,
        accountId: image.accountId,
        artifactPath,
        memoryMib: configuration.memoryMib,
        ...(configuration.egress && { egress: configuration.egress }),
        environment: {
          ...configuration.environment,
          ...injectedEnvironment(image, build.version, config.region),
        },
        capabilities: configuration.additionalOsCapabilities ? "all" : "default",
        ...buildHooks(configuration.hooks),
      };
      const template = await host.buildTemplate(
        spec,
        { log: (text) => log.write(text), phase: (name) => log.write(`==> ${name}\n`) },
        shutdown,
      );
      return {
        kind: "built",
        snapshot: {
          memoryBytes: template.memorySnapshotBytes,
          codeInstallBytes: template.codeInstallBytes,
          diskBytes: template.diskSnapshotBytes,
        },
        receipt: template.receipt,
      };
    } finally {
      await rm(artifactPath, { force: true });
    }
  }

  /** A build goes on without credentials: what needs them says so itself. */
  async #role(arn: string, log: BuildLog): Promise<{ readonly credentials?: string }> {
    const { roles, shutdown } = this.#deps;
    const lack = roles.lack(arn);
    if (lack !== undefined) {
      log.write(`The build role ${arn} is not in the role-file of this server: there are no credentials.\n`);
      return {};
    }
    try {
      return { credentials: documentOf(await roles.credentials(arn, shutdown)) };
    } catch (err) {
      shutdown.throwIfAborted();
      log.write(`No credentials of the build role ${arn}: ${messageOf(err)}\n`);
      return {};
    }
  }

  #incoming(): string {
    return join(this.#deps.config.dataDir, "incoming");
  }
}

/** The same build once more, and later in the order of the version's builds. */
function anew(build: Build, at: Date): Build {
  const createdAt = new Date(Math.max(at.getTime(), build.createdAt.getTime() + 1));
  return { ...build, id: randomUUID(), state: "PENDING", stateReason: null, snapshot: null, createdAt };
}
