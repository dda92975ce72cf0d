import { type Answer, decode, encode, type Packet, RECURSION_AVAILABLE, RECURSION_DESIRED } from "dns-packet";

/** What the package does not type. */
interface Decoded extends Packet {
  readonly opcode?: string;
  readonly rcode?: string;
  readonly flag_tc?: boolean;
}

export type Rcode = "NOERROR" | "FORMERR" | "SERVFAIL" | "NXDOMAIN" | "NOTIMP" | "REFUSED";

/** A question as it came from a guest: nothing of it is passed on but the name and the type. */
export interface Query {
  readonly id: number;
  /** Spelled as it came; see `name`. */
  readonly spelled: string;
  /** In small letters, without a dot at its end. */
  readonly name: string;
  readonly type: string;
  readonly recursionDesired: boolean;
  /** What fits into an answer by UDP: 512 without EDNS. */
  readonly udpBytes: number;
  readonly edns: boolean;
}

export interface Reply {
  readonly rcode: Rcode;
  readonly answers: readonly Answer[];
  readonly authorities?: readonly Answer[];
  /** For people who debug: an extended error (RFC 8914). */
  readonly explanation?: string;
}

const RESPONSE_BIT = 0x80;
const HEADER_BYTES = 12;
/** Larger ones are fragmented somewhere, and fragments get lost (DNS flag day 2020). */
export const UDP_BYTES = 1232;
const PLAIN_UDP_BYTES = 512;
const RCODES: Readonly<Record<Rcode, number>> = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
};
const EXTENDED_ERROR = 15;
const PROHIBITED = 18;
const NAME = /^(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*$/;

/**
 * Reads what somebody hostile sent.
 * @returns the question; or what to answer to one that cannot be answered; or undefined when silence is the answer,
 * lest two servers talk for ever
 */
export function parseQuery(bytes: Uint8Array): { query: Query } | { refusal: Buffer } | undefined {
  if (bytes.length < HEADER_BYTES || (bytes[2]! & RESPONSE_BIT) !== 0) return undefined;
  const packet = tryDecode(bytes);
  const question = packet?.questions?.[0];
  if (!packet || !question || packet.questions?.length !== 1) return { refusal: refusal(bytes, "FORMERR") };
  if (packet.opcode !== "QUERY" || question.class !== "IN") return { refusal: refusal(bytes, "NOTIMP") };
  const name = normalized(question.name);
  if (name === undefined) return { refusal: refusal(bytes, "REFUSED") };
  const options = packet.additionals?.filter(({ type }) => type === "OPT") ?? [];
  if (options.length > 1) return { refusal: refusal(bytes, "FORMERR") };
  const opt = options[0] as { readonly udpPayloadSize?: number } | undefined;
  return {
    query: {
      id: packet.id ?? 0,
      spelled: question.name,
      name,
      type: question.type,
      recursionDesired: ((packet.flags ?? 0) & RECURSION_DESIRED) !== 0,
      udpBytes: opt ? Math.min(Math.max(opt.udpPayloadSize ?? 0, PLAIN_UDP_BYTES), UDP_BYTES) : PLAIN_UDP_BYTES,
      edns: opt !== undefined,
    },
  };
}

/** The name as it is compared; undefined when it is none that a host can have. */
export function normalized(name: string): string | undefined {
  const small = name.toLowerCase().replace(/\.$/, "");
  return NAME.test(small) ? small : undefined;
}

/** @param maxBytes what is longer is left out, and said to be */
export function encodeReply(query: Query, reply: Reply, maxBytes: number): Buffer {
  const message = encode(packetOf(query, reply));
  if (message.length <= maxBytes) return message;
  const short = encode(packetOf(query, { ...reply, answers: [], authorities: [] }));
  short[2]! |= 0x02; // TC
  return short;
}

function packetOf(query: Query, { rcode, answers, authorities = [], explanation }: Reply): Packet {
  return {
    type: "response",
    id: query.id,
    flags: RCODES[rcode] | RECURSION_AVAILABLE | (query.recursionDesired ? RECURSION_DESIRED : 0),
    questions: [{ name: query.spelled, type: query.type as "A", class: "IN" }],
    answers: [...answers],
    authorities: [...authorities],
    additionals: query.edns ? [optOf(explanation)] : [],
  };
}

function optOf(explanation: string | undefined): Answer {
  const code = Buffer.alloc(2);
  code.writeUInt16BE(PROHIBITED);
  const options =
    explanation === undefined ? [] : [{ code: EXTENDED_ERROR, data: Buffer.concat([code, Buffer.from(explanation)]) }];
  return {
    type: "OPT",
    name: ".",
    udpPayloadSize: UDP_BYTES,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options,
  } as unknown as Answer;
}

/** Only the header, which any resolver understands: the rest could not be read. */
function refusal(bytes: Uint8Array, rcode: Rcode): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.set(bytes.subarray(0, 2));
  header[2] = RESPONSE_BIT | (bytes[2]! & 0x79); // its opcode, and whether recursion was desired
  header[3] = RESPONSE_BIT | RCODES[rcode];
  return header;
}

/** What a name server answered, as far as it can be believed: to this question, and whole. */
export interface UpstreamAnswer {
  readonly rcode: string;
  readonly truncated: boolean;
  readonly answers: readonly Answer[];
  readonly authorities: readonly Answer[];
}

export function encodeQuestion(id: number, name: string, type: string): Buffer {
  return encode({
    type: "query",
    id,
    flags: RECURSION_DESIRED,
    questions: [{ name, type: type as "A", class: "IN" }],
    additionals: [optOf(undefined)],
  });
}

/** Undefined unless it answers that question. */
export function parseAnswer(bytes: Uint8Array, id: number, name: string, type: string): UpstreamAnswer | undefined {
  const packet = tryDecode(bytes);
  const question = packet?.questions?.[0];
  if (packet?.type !== "response" || packet.id !== id || packet.questions?.length !== 1) return undefined;
  if (question?.type !== type || question.class !== "IN" || normalized(question.name) !== name) return undefined;
  const records = (list: readonly Answer[] | undefined): Answer[] =>
    (list ?? []).filter((each) => each.type !== "OPT" && normalized(each.name) !== undefined);
  return {
    rcode: packet.rcode ?? "SERVFAIL",
    truncated: packet.flag_tc === true,
    answers: records(packet.answers),
    authorities: records(packet.authorities),
  };
}

function tryDecode(bytes: Uint8Array): Decoded | undefined {
  try {
    return decode(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)) as Decoded;
  } catch {
    return undefined;
  }
}
