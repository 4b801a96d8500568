/**
 * Progress of the engines: a line that people can read and the terminal view can parse, and that view: a bar
 * for each rank, redrawn in place, with all other output above it.
 */

export interface Progress {
  readonly finished: number;
  readonly requests: number;
  readonly generatedTokens: number;
  readonly step: number;
  readonly wave: number;
}

export function progressLine(p: Progress): string {
  return `progress ${p.finished}/${p.requests} requests, ${p.generatedTokens} tokens, step ${p.step}, wave ${p.wave}`;
}

/** The rank and progress in a line of the launcher, undefined for all other lines. */
export function parseProgress(line: string): ({ readonly rank: number } & Progress) | undefined {
  const match = /^\[rank (\d+)\] progress (\d+)\/(\d+) requests, (\d+) tokens, step (\d+), wave (\d+)$/.exec(
    line,
  );
  if (match === null) return undefined;
  const [rank = 0, finished = 0, requests = 0, generatedTokens = 0, step = 0, wave = 0] = match
    .slice(1)
    .map(Number);
  return { rank, finished, requests, generatedTokens, step, wave };
}

/** One bar, at most `columns` wide. */
export function progressBar(rank: number, p: Progress | undefined, columns: number): string {
  const share = p === undefined ? 0 : p.requests === 0 ? 1 : p.finished / p.requests;
  const label = `rank ${rank} `;
  const facts =
    p === undefined
      ? ' joining'
      : ` ${String(Math.floor(share * 100)).padStart(3)}%  ${p.finished}/${p.requests} requests  ${p.generatedTokens} tokens  step ${p.step}  wave ${p.wave}`;
  const width = Math.max(0, Math.min(30, columns - label.length - facts.length - 1));
  const filled = Math.round(share * width);
  return `${label}${'█'.repeat(filled)}${'░'.repeat(width - filled)}${facts}`.slice(
    0,
    Math.max(0, columns - 1),
  );
}

/** Draws on a terminal through `write`. Feed it the launcher's lines. */
export class ProgressView {
  readonly #write: (text: string) => void;
  readonly #columns: () => number;
  readonly #states: (Progress | undefined)[];
  readonly #held: string[] = [];
  #drawn = 0;

  constructor(ranks: number, write: (text: string) => void, columns: () => number) {
    this.#states = new Array<Progress | undefined>(ranks).fill(undefined);
    this.#write = write;
    this.#columns = columns;
  }

  /** Takes one line without its newline: moves a bar, or prints the line above the bars. */
  line(line: string): void {
    const progress = parseProgress(line);
    const first = this.#states[0];
    if (progress !== undefined) {
      if (progress.rank < this.#states.length) this.#states[progress.rank] = progress;
      this.#redraw('');
    } else if (first !== undefined && first.finished >= first.requests) {
      // Probably the closing table, which belongs below the bars; other ranks' last progress may still come.
      this.#held.push(`${line}\n`);
    } else {
      this.#redraw(`${line}\n`);
    }
  }

  /** Leaves the bars as they are and prints below them what was kept for the end. */
  end(): void {
    this.#write(this.#held.splice(0).join(''));
    this.#drawn = 0;
  }

  #redraw(above: string): void {
    const columns = this.#columns();
    const up = this.#drawn > 0 ? `\u001b[${this.#drawn}A` : '';
    const bars = this.#states.map((state, rank) => `${progressBar(rank, state, columns)}\n`).join('');
    // Erase from the first bar down, so that a long line above does not leave rests of bars.
    this.#write(`${up}\r\u001b[J${above}${bars}`);
    this.#drawn = this.#states.length;
  }
}
