/** Lets pass while it is open; while it is shut, they wait. */
export class Gate {
  #open: boolean;
  #waiting: (() => void)[] = [];

  constructor(open: boolean) {
    this.#open = open;
  }

  set(open: boolean): void {
    this.#open = open;
    if (open) for (const pass of this.#waiting.splice(0)) pass();
  }

  async passed(): Promise<void> {
    while (!this.#open) await new Promise<void>((pass) => this.#waiting.push(pass));
  }
}
