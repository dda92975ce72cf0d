export interface ContainerConfig {
  argv: string[];
  env: string[];
  user: string;
  workdir: string;
  exposedPorts: number[];
  stopSignal?: string;
}
