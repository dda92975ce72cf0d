/** What a guest finds in its machine. */
export interface GuestHardware {
  /** At which the host reaches it. */
  readonly address: string;
  readonly memory: Pages;
  readonly disk: Pages;
  /** Ends the VMM, as a panic does. */
  powerOff(): void;
}

/** Numbered pages of 4096 bytes; what was never written is zeros. */
export interface Pages {
  read(page: number): Buffer;
  /** @param bytes a page or less; the rest of the page becomes zeros */
  write(page: number, bytes: Uint8Array): void;
}

/**
 * The programs of a guest, as one object. All of what they know must be in the machine's memory and on its disk: a
 * restored machine has nothing else.
 */
export interface GuestSoftware {
  load(hardware: GuestHardware): Processor;
}

/** Runs the software. */
export interface Processor {
  run(): Promise<void>;
  /** From here on nothing happens until it runs. */
  pause(): void;
  /** The machine is gone. */
  stop(): void;
}
