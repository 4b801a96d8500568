/** Figures as a table that can go into a page as it is. */
import { quantile } from '../../bench/statistics.ts';

export class Figures {
  readonly #samples = new Map<string, number[]>();

  add(row: string, value: number): void {
    const samples = this.#samples.get(row) ?? [];
    samples.push(value);
    this.#samples.set(row, samples);
  }

  count(row: string): number {
    return this.#samples.get(row)?.length ?? 0;
  }

  of(row: string, q: number): number {
    return quantile(
      [...(this.#samples.get(row) ?? [])].sort((a, b) => a - b),
      q,
    );
  }

  rows(): string[] {
    return [...this.#samples.keys()];
  }

  /** In milliseconds. */
  table(first: string): string {
    const lines = [`| ${first} | rounds | p50 ms | p99 ms | max ms |`, '|---|---|---|---|---|'];
    for (const row of this.rows()) {
      const cells = [0.5, 0.99, 1].map((q) => this.of(row, q).toFixed(1));
      lines.push(`| ${row} | ${this.count(row)} | ${cells.join(' | ')} |`);
    }
    return lines.join('\n');
  }
}
