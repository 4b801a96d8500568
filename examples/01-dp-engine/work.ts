/**
 * The stand-in for a model: a chain of floating point operations for each token. The result depends only on
 * the request, not on how it was batched or on which rank it ran, so the checksum of a trace is the same for
 * any N.
 */

/** Iterations for a prompt token, about 1 µs. */
const prefillIterations = 250;
/** Iterations for a generated token, about 0.1 ms. */
const decodeIterations = 25_000;

const bits = new DataView(new ArrayBuffer(8));

export class TokenWork {
  readonly #prefill: number;
  readonly #decode: number;
  #idle = 0.3;

  /** `scale` multiplies the work of every token; 0 is none. */
  constructor(scale = 1) {
    this.#prefill = Math.round(prefillIterations * scale);
    this.#decode = Math.round(decodeIterations * scale);
  }

  /** State of a request before its first token. */
  start(index: number): number {
    return 0.1 + 0.8 * ((index * 0.618033988749895) % 1);
  }

  prefill(state: number, tokens: number): number {
    return iterate(state, tokens * this.#prefill);
  }

  decode(state: number): number {
    return iterate(state, this.#decode);
  }

  /** What an engine without requests computes so that the others are not held up: one token of nothing. */
  dummy(): void {
    this.#idle = iterate(this.#idle, this.#decode);
  }

  /** 32 bits of a finished request; combine them with exclusive or. */
  checksum(index: number, state: number): number {
    bits.setFloat64(0, state);
    let hash = Math.imul(bits.getUint32(0) ^ (index + 1), 0x9e3779b1) ^ bits.getUint32(4);
    hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
    return (hash ^ (hash >>> 13)) >>> 0;
  }
}

/** The logistic map: chaotic, so no iteration can be left out or foreseen. Stays within (0, 1). */
function iterate(start: number, times: number): number {
  let x = start;
  for (let i = 0; i < times; i++) x = 3.9 * x * (1 - x);
  return x;
}
