/**
 * Turns the byte stream of one rank into whole lines with a prefix. Works on bytes, so output that is no
 * UTF-8 passes unchanged.
 */

const newline = 0x0a;

/** Lines longer than this (1 MiB) are cut into pieces of at most this many bytes: memory stays bounded. */
export const maxLineBytes = 1 << 20;

/** Collects chunks, gives back whole lines. One per stream of a rank. Not reentrant. */
export class LinePrefixer {
  readonly #prefix: Buffer;
  readonly #limit: number;
  #pieces: Buffer[] = [];
  #held = 0;

  constructor(prefix: string | Buffer, limit = maxLineBytes) {
    this.#prefix = Buffer.from(prefix);
    this.#limit = limit;
  }

  /** Takes a chunk; returns the lines it completes, each with its prefix and newline. May be empty. */
  push(chunk: Buffer): Buffer {
    const end = chunk.lastIndexOf(newline) + 1;
    if (end === 0) return this.#hold(chunk);
    const out: Buffer[] = [];
    let start = 0;
    if (this.#held > 0) {
      start = chunk.indexOf(newline) + 1;
      out.push(this.#prefix, ...this.#pieces, chunk.subarray(0, start));
      this.#pieces = [];
      this.#held = 0;
    }
    if (this.#prefix.length === 0) {
      out.push(chunk.subarray(start, end));
    } else {
      while (start < end) {
        const next = chunk.indexOf(newline, start) + 1;
        out.push(this.#prefix, chunk.subarray(start, next));
        start = next;
      }
    }
    if (end < chunk.length) out.push(this.#hold(chunk.subarray(end)));
    return Buffer.concat(out);
  }

  /** The last line where it had no newline; it gets one. Call when the stream has ended. */
  end(): Buffer {
    if (this.#held === 0) return Buffer.alloc(0);
    const line = Buffer.concat([this.#prefix, ...this.#pieces, Buffer.of(newline)]);
    this.#pieces = [];
    this.#held = 0;
    return line;
  }

  #hold(rest: Buffer): Buffer {
    this.#pieces.push(rest);
    this.#held += rest.length;
    if (this.#held < this.#limit) return Buffer.alloc(0);
    let line = Buffer.concat(this.#pieces);
    const out: Buffer[] = [];
    while (line.length >= this.#limit) {
      const cut = characterStart(line, this.#limit);
      out.push(this.#prefix, line.subarray(0, cut), Buffer.of(newline));
      line = line.subarray(cut);
    }
    this.#pieces = line.length > 0 ? [line] : [];
    this.#held = line.length;
    return Buffer.concat(out);
  }
}

/**
 * The last position <= `at` that does not split a UTF-8 character (or `at`, where the bytes are no UTF-8).
 */
function characterStart(bytes: Buffer, at: number): number {
  for (let cut = at; cut > 0 && cut > at - 4; cut--) {
    const byte = bytes[cut];
    if (byte === undefined || (byte & 0xc0) !== 0x80) return cut;
  }
  return at;
}

const colours = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

/** `[rank 2] `, in a colour of its rank where wanted. */
export function rankPrefix(rank: number, colour: boolean): string {
  const text = `[rank ${rank}]`;
  return colour ? `\x1b[${colours[rank % colours.length]}m${text}\x1b[0m ` : `${text} `;
}
