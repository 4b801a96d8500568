/**
 * Writes trace.csv, the small trace of this example:
 * `node scripts/run-ts.mjs examples/01-dp-engine/generate-trace.ts`.
 * Bursts of requests with quiet times between them, lengths spread over two orders of magnitude; the same file
 * for the same seed.
 */

/** A small generator of uniform numbers in [0, 1), known as mulberry32. */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function generateTrace(seed: number, count: number): string {
  const next = uniform(seed);
  const normal = () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
  const tokens = (median: number, spread: number, most: number) =>
    Math.max(4, Math.min(most, Math.round(median * Math.exp(spread * normal()))));
  const lines = ['arrival_seconds,prompt_tokens,generated_tokens'];
  let time = 0;
  let left = 0;
  for (let i = 0; i < count; i++) {
    if (left === 0) {
      left = 5 + Math.floor(next() * 30);
      if (i > 0) time += 4 + 8 * next();
    }
    left -= 1;
    time += -0.12 * Math.log(1 - next());
    lines.push(`${time.toFixed(3)},${tokens(500, 1.1, 6000)},${tokens(80, 0.8, 400)}`);
  }
  return `${lines.join('\n')}\n`;
}

if (process.argv[1]?.endsWith('generate-trace.js')) process.stdout.write(generateTrace(2026, 480));
