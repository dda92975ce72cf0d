import type { Command } from "commander";
import { readEnvironment } from "../environment.ts";
import { usage } from "../failure.ts";
import type { Output } from "../output.ts";
import { type CommonFlags, clientCommand, openSession, outputFor } from "../session.ts";
import { type Authority, readAuthority } from "../trust/authority.ts";
import { browserStores } from "../trust/browser-stores.ts";
import type { Place } from "../trust/place.ts";
import { systemAdvice, systemStore } from "../trust/system-store.ts";

interface TrustFlags extends CommonFlags {
  readonly system?: boolean;
  readonly browsers?: boolean;
  readonly uninstall?: boolean;
  readonly print?: boolean;
}

/** Makes programs accept the microvms' endpoints: where it is told to, and nowhere without being told. */
export function trustCommand(signal: AbortSignal): Command {
  return clientCommand("trust", "have this machine's programs accept the microvms' certificates")
    .option("--system", "in the system's store: curl, Python with the system's store, Go and others (root)")
    .option("--browsers", "in this user's Chromium, Chrome and Firefox (needs certutil)")
    .option("--uninstall", "remove it from there")
    .option("--print", "print the authority as PEM")
    .addHelpText("after", "\nWithout --system and --browsers nothing is changed: it says what could be, and what is.")
    .action(async (flags: TrustFlags) => {
      // --ca-file alone is enough: who runs this with sudo has no server's data of its own.
      const file = flags.caFile ?? openSession(flags, signal).connection.caFile;
      const out = outputFor(flags.json === true);
      const authority = readAuthority(file);
      if (flags.print) {
        if (flags.system || flags.browsers || flags.uninstall) throw usage("--print changes nothing: give it alone");
        out.result({ file: authority.file, pem: authority.pem }, () => authority.pem);
        return;
      }
      const { home, path } = readEnvironment();
      const system = systemStore(process.platform, path);
      const browsers = browserStores(home ?? "/", path);
      if (!flags.system && !flags.browsers) {
        if (flags.uninstall) throw usage("--uninstall from where?", "torpor trust --uninstall --system --browsers");
        await show(out, authority, system, browsers);
        return;
      }
      const advice: string[] = [];
      if (flags.system && system === undefined) {
        const { name, install, uninstall } = systemAdvice(process.platform, authority);
        advice.push(`${name}: ${flags.uninstall ? uninstall : install}`);
      }
      if (flags.browsers && browsers.length === 0)
        advice.push(
          "no browser of this user has a database of certificates yet: start it once, or import the file by hand",
        );
      const places = [...(flags.system && system ? [system] : []), ...(flags.browsers ? browsers : [])];
      const done: { place: string; done: readonly string[] }[] = [];
      for (const place of places) {
        const steps = flags.uninstall ? await place.uninstall(authority) : await place.install(authority);
        done.push({ place: place.name, done: steps });
      }
      const nothing = flags.uninstall ? "it was not there" : "it was there already";
      out.result({ authority: facts(authority), places: done, advice }, () =>
        [...done.map(({ place, done: steps }) => `${place}: ${steps.join("; ") || nothing}`), ...advice].join("\n"),
      );
    });
}

async function show(
  out: Output,
  authority: Authority,
  system: Place | undefined,
  browsers: readonly Place[],
): Promise<void> {
  const places = await Promise.all(
    [...(system ? [system] : []), ...browsers].map(async (place) => ({
      place: place.name,
      // Without certutil nobody can look.
      trusted: await place.has(authority).catch(() => undefined),
      command: `torpor trust --${place.kind}`,
    })),
  );
  const { install } = systemAdvice(process.platform, authority);
  const advice = system === undefined ? [install] : [];
  const words = (trusted: boolean | undefined): string =>
    trusted === undefined ? "not known: certutil is not there" : trusted ? "trusted" : "not trusted";
  out.result({ authority: facts(authority), places, advice }, () =>
    [
      `${authority.name}, until ${authority.until.toISOString().slice(0, 10)}, in ${authority.file}`,
      `SHA-256 ${authority.fingerprint}`,
      ...places.map(({ place, trusted, command }) => `${place}: ${words(trusted)}${trusted ? "" : ` (${command})`}`),
      ...advice,
      `one program alone: curl --cacert ${authority.file}, NODE_EXTRA_CA_CERTS, SSL_CERT_FILE, REQUESTS_CA_BUNDLE`,
    ].join("\n"),
  );
}

const facts = ({ file, name, until, fingerprint }: Authority) => ({ file, name, until, sha256: fingerprint });
