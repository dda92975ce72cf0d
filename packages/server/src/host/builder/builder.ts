import type { BuildObserver } from "../host-client.ts";
import type { ContainerConfig } from "./container-config.ts";
export interface Builder {
  build(
    request: {
      buildId: string;
      accountId: string;
      artifactPath: string;
      diskGib: number;
      outputPath: string;
      environment: Readonly<Record<string, string>>;
      netns?: string;
    },
    observer: BuildObserver,
    signal: AbortSignal,
  ): Promise<{ container: ContainerConfig; rootfsBytes: number }>;
  recover(): Promise<void>;
}
