import type { Config } from "../config.ts";
import { AddressList } from "../lib/address-list.ts";
import { invalidInput } from "../lib/errors.ts";
import type { Proxies } from "./proxy/client-address.ts";
import type { VisitorRules } from "./visitor.ts";

/** What may stand before the endpoint, and what is believed of it. */
export interface Front extends Proxies {
  /** Connections of the trusted begin with a PROXY header. */
  readonly proxyProtocol: boolean;
  /** TLS ends before us: plain HTTP from the trusted, nothing from others. */
  readonly plainHttp: boolean;
  readonly forwarded: VisitorRules["forwarded"];
}

export const NO_FRONT: Front = {
  trusted: new AddressList(""),
  header: "x-forwarded-for",
  proxyProtocol: false,
  plainHttp: false,
  forwarded: "aws",
};

type FrontConfig = Pick<
  Config,
  "trustedProxies" | "proxyProtocol" | "proxyHeader" | "endpointTls" | "forwardedHeaders"
>;

/** @throws TorporError when one setting makes no sense without another */
export function frontOf(config: FrontConfig): Front {
  const trusted = new AddressList(config.trustedProxies);
  const proxyProtocol = config.proxyProtocol === "on";
  const plainHttp = config.endpointTls === "off";
  if (trusted.empty && (proxyProtocol || plainHttp))
    throw invalidInput(
      `${plainHttp ? "endpoint-tls is off" : "proxy-protocol is on"}, and trusted-proxies names nobody who may connect so: ` +
        "name the proxies' addresses, such as 127.0.0.1",
    );
  return { trusted, header: config.proxyHeader, proxyProtocol, plainHttp, forwarded: config.forwardedHeaders };
}
