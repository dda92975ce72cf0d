import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { BenchProcess } from "../harness/process.ts";

/** Undefined when it is there; otherwise why nothing can be compared with it. */
export const nginxMissing = (): string | undefined =>
  spawnSync("nginx", ["-v"]).status === 0 ? undefined : "nginx is not there (the Debian package nginx-light is enough)";

export interface Nginx extends AsyncDisposable {
  readonly port: number;
  readonly process: BenchProcess;
}

/**
 * nginx as people put it before an app: TLS with the same certificate, connections to the app kept, answers passed on as
 * they come, no log of accesses. One process, as ours is one.
 */
export async function startNginx(folder: string, pemFile: string, appPort: number): Promise<Nginx> {
  const port = await freePort();
  const home = join(folder, "nginx");
  await mkdir(home);
  const config = join(home, "nginx.conf");
  await writeFile(config, configuration(home, port, pemFile, appPort));
  const nginx = new BenchProcess(["nginx", "-e", "stderr", "-p", home, "-c", config], "server");
  for (let tries = 0; !(await answers(port)); tries++) {
    if (tries === 100) throw new Error(`nginx does not listen on port ${port}`);
    await sleep(50);
  }
  return { port, process: nginx, [Symbol.asyncDispose]: () => nginx[Symbol.asyncDispose]() };
}

const configuration = (home: string, port: number, pemFile: string, appPort: number): string => `
daemon off;
master_process off;
error_log stderr crit;
pid ${home}/nginx.pid;
worker_rlimit_nofile 20000;
events { worker_connections 20000; }
http {
  access_log off;
  client_body_temp_path ${home}/body;
  proxy_temp_path ${home}/proxy;
  fastcgi_temp_path ${home}/fastcgi;
  uwsgi_temp_path ${home}/uwsgi;
  scgi_temp_path ${home}/scgi;
  keepalive_requests 1000000000;
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  upstream app { server 127.0.0.1:${appPort}; keepalive 64; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:${port} ssl backlog=4096;
    ssl_certificate ${pemFile};
    ssl_certificate_key ${pemFile};
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_buffering off;
      proxy_set_header Host $host;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header Upgrade $http_upgrade;
      proxy_read_timeout 1h;
    }
  }
}
`;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}
