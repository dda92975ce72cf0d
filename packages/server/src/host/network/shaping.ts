/** Traffic of the guest's agent, the endpoint's included: a guest that fills its link must still hear what it is told. */
export const AGENT_CLASS = "1:10";
const OTHER_CLASS = "1:20";

/** What waits for its turn, in seconds of the whole rate. */
const QUEUE_SECONDS = 0.1;
/** A few packets as they come from a guest that segments late. */
const LEAST_QUEUE = 256 << 10;
const LEAST_BURST = 128 << 10;
const BURST_SECONDS = 0.02;
/** What a class sends before it is the next one's turn: one large segment. */
const QUANTUM = 64 << 10;

/**
 * For `tc -batch`: bounds what a slot sends in each direction. The agent's class goes first and may have all; what it
 * leaves is the others'. A slot that is bounded already gets the new bound.
 */
export function shapingCommands(bytesPerSecond: number): string {
  const rate = `${bytesPerSecond}bps`;
  const half = `${Math.max(1, Math.floor(bytesPerSecond / 2))}bps`;
  const burst = Math.max(LEAST_BURST, Math.ceil(bytesPerSecond * BURST_SECONDS));
  const queue = Math.max(LEAST_QUEUE, Math.ceil(bytesPerSecond * QUEUE_SECONDS));
  const bound = `burst ${burst} cburst ${burst} quantum ${QUANTUM}`;
  return ["tap0", "veth0"]
    .flatMap((dev) => [
      `qdisc replace dev ${dev} root handle 1: htb default 20`,
      `class replace dev ${dev} parent 1: classid 1:1 htb rate ${rate} ceil ${rate} ${bound}`,
      `class replace dev ${dev} parent 1:1 classid ${AGENT_CLASS} htb rate ${half} ceil ${rate} ${bound} prio 0`,
      `class replace dev ${dev} parent 1:1 classid ${OTHER_CLASS} htb rate ${half} ceil ${rate} ${bound} prio 1`,
      `qdisc replace dev ${dev} parent ${AGENT_CLASS} handle 10: bfifo limit ${queue}`,
      `qdisc replace dev ${dev} parent ${OTHER_CLASS} handle 20: bfifo limit ${queue}`,
      "",
    ])
    .join("\n");
}
