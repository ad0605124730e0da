/**
 * Sends the newest state as often as the kernel can show something of it.
 *
 * The first call goes out at once. While it is on its way, later calls wait; the newest of them goes out when the first
 * token has landed, or after `patience` ms; at least `gap` ms lie between two. A fixed rate would either lag behind a fast
 * model or, faster than a slow one, replace every run before its first token, so that a moving slider would show nothing.
 */
export class Pace {
  private waiting = false;
  private flying = false;
  private sentAt = Number.NEGATIVE_INFINITY;
  private notBefore = Number.NEGATIVE_INFINITY;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly send: () => void,
    private readonly gap = 40,
    private readonly patience = 400,
  ) {}

  /** There is something new to send. shown: of which the page shows all already; what it has to draw goes first. */
  call({ shown = false } = {}): void {
    if (!shown) this.notBefore = Number.NEGATIVE_INFINITY;
    else if (!this.waiting) this.notBefore = performance.now() + this.gap;
    this.waiting = true;
    this.plan();
  }

  /** Send now, whatever is on its way. */
  now(): void {
    this.waiting = true;
    this.fire();
  }

  /** What was sent last has an answer on the screen. */
  landed(): void {
    this.flying = false;
    if (this.waiting) this.plan();
  }

  /** Whether something waits to be sent. */
  get pending(): boolean {
    return this.waiting;
  }

  /** Forget what waits. */
  cancel(): void {
    clearTimeout(this.timer);
    this.waiting = false;
  }

  private plan(): void {
    clearTimeout(this.timer);
    const next = this.sentAt + (this.flying ? this.patience : this.gap);
    const wait = Math.max(next, this.notBefore) - performance.now();
    if (wait <= 0) this.fire();
    else this.timer = setTimeout(() => this.fire(), wait);
  }

  private fire(): void {
    clearTimeout(this.timer);
    if (!this.waiting) return;
    this.waiting = false;
    this.flying = true;
    this.sentAt = performance.now();
    this.send();
  }
}
