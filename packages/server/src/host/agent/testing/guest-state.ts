import type { Pages } from "../../driver/fake/software.ts";
import type { AgentEvent } from "../agent.ts";

const PAGE = 4096;
/** Pages that the state may take; what the workload keeps is behind them. */
const STATE_PAGES = 128;
const FIRST_NOTE = 1024;
/** The agent's ring, in events. */
const MAX_EVENTS = 200;

/** Everything that an agent and its workload know. */
export interface GuestState {
  microvmId: string;
  frozen: boolean;
  credentials: string;
  workload: { state: "none" | "running" | "exited"; exitCode?: number };
  events: AgentEvent[];
  lastSeq: number;
  /** Where the workload's notes are, by their names. */
  notes: Record<string, number>;
}

const FIRST: GuestState = {
  microvmId: "",
  frozen: false,
  credentials: "",
  workload: { state: "none" },
  events: [],
  lastSeq: 0,
  notes: {},
};

/** The state of a guest, in its memory and nowhere else. */
export class GuestMemoryState {
  readonly #memory: Pages;

  constructor(memory: Pages) {
    this.#memory = memory;
  }

  read(): GuestState {
    const first = this.#memory.read(0);
    const length = first.readUInt32LE(0);
    if (length === 0) return structuredClone(FIRST);
    const pages = [first];
    for (let n = 1; n * PAGE < length + 4; n++) pages.push(this.#memory.read(n));
    return JSON.parse(Buffer.concat(pages).toString("utf8", 4, 4 + length)) as GuestState;
  }

  change(edit: (state: GuestState) => void): GuestState {
    const state = this.read();
    edit(state);
    state.events.splice(0, state.events.length - MAX_EVENTS);
    const json = Buffer.from(JSON.stringify(state));
    const bytes = Buffer.alloc(4 + json.length);
    bytes.writeUInt32LE(json.length);
    bytes.set(json, 4);
    if (bytes.length > STATE_PAGES * PAGE) throw new Error("the guest knows too much");
    for (let n = 0; n * PAGE < bytes.length; n++) this.#memory.write(n, bytes.subarray(n * PAGE, (n + 1) * PAGE));
    return state;
  }

  /** A note has a page of its own. */
  remember(name: string, text: string): void {
    const { notes } = this.change((state) => {
      state.notes[name] ??= FIRST_NOTE + Object.keys(state.notes).length;
    });
    this.#memory.write(notes[name]!, encodeText(text));
  }

  recall(name: string): string | undefined {
    const page = this.read().notes[name];
    return page === undefined ? undefined : decodeText(this.#memory.read(page));
  }
}

/** A file system with files of one page: the first block says where they are. */
export class GuestFiles {
  readonly #disk: Pages;

  constructor(disk: Pages) {
    this.#disk = disk;
  }

  write(name: string, text: string): void {
    const folder = this.#folder();
    folder[name] ??= 1 + Object.keys(folder).length;
    this.#disk.write(folder[name], encodeText(text));
    this.#disk.write(0, encodeText(JSON.stringify(folder)));
  }

  read(name: string): string | undefined {
    const block = this.#folder()[name];
    return block === undefined ? undefined : decodeText(this.#disk.read(block));
  }

  #folder(): Record<string, number> {
    return JSON.parse(decodeText(this.#disk.read(0)) || "{}") as Record<string, number>;
  }
}

function encodeText(text: string): Buffer {
  const bytes = Buffer.from(text);
  const page = Buffer.alloc(2 + bytes.length);
  page.writeUInt16LE(bytes.length);
  page.set(bytes, 2);
  return page;
}

const decodeText = (page: Buffer): string => page.toString("utf8", 2, 2 + page.readUInt16LE(0));
