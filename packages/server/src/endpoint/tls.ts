import { randomBytes } from "node:crypto";
import type { Server, TlsOptions } from "node:tls";
import type { Clock } from "../lib/clock.ts";

/** In TLS 1.3 all there are; in 1.2 those with forward secrecy and authenticated encryption. Source: RFC 9325 §4.2. */
const CIPHERS = [
  "TLS_AES_128_GCM_SHA256",
  "TLS_AES_256_GCM_SHA384",
  "TLS_CHACHA20_POLY1305_SHA256",
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
].join(":");

/** How TLS is spoken, whatever the certificate. */
export const TLS: TlsOptions = {
  minVersion: "TLSv1.2",
  ciphers: CIPHERS,
  honorCipherOrder: false, // all are good: the client knows which it is fast at
};

const TICKET_KEY_LIFE_MS = 60 * 60 * 1000;

/**
 * Session tickets are encrypted with a key that would otherwise live as long as the server: whoever got hold of it could
 * read what was said in TLS 1.2 since. A ticket of an older key costs its client a whole handshake.
 */
export function rotateTicketKeys(server: Pick<Server, "setTicketKeys">, clock: Clock): Disposable {
  let cancel = (): void => {};
  const schedule = (): void => {
    cancel = clock.after(TICKET_KEY_LIFE_MS, () => {
      server.setTicketKeys(randomBytes(48));
      schedule();
    });
  };
  schedule();
  return { [Symbol.dispose]: () => cancel() };
}
