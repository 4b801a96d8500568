/** Continuous batching of one engine's requests within a KV-cache budget. Computes; does not communicate. */

import type { Request } from './trace.ts';
import type { TokenWork } from './work.ts';

export interface SchedulerLimits {
  /** Requests that run at the same time. */
  readonly maxBatch: number;
  /** Tokens in one step; what generated tokens leave over goes to prompts, in pieces. */
  readonly tokensPerStep: number;
  /** Tokens that the KV cache holds. */
  readonly kvTokens: number;
}

interface Running {
  readonly request: Request;
  promptDone: number;
  generated: number;
  state: number;
}

/** Sums over all steps so far. */
export interface SchedulerTotals {
  finished: number;
  /** Requests longer than the whole KV cache; they never run. */
  refused: number;
  promptTokens: number;
  generatedTokens: number;
  /** Exclusive or over the finished requests. */
  checksum: number;
  /** Largest number of KV-cache tokens reserved at a time. */
  peakKvTokens: number;
}

export class Scheduler {
  readonly totals: SchedulerTotals = {
    finished: 0,
    refused: 0,
    promptTokens: 0,
    generatedTokens: 0,
    checksum: 0,
    peakKvTokens: 0,
  };
  readonly #limits: SchedulerLimits;
  readonly #work: TokenWork;
  /** First come, first served; `#first` is the head, the array is cut now and then. */
  #waiting: Request[] = [];
  #first = 0;
  #running: Running[] = [];
  #kvUsed = 0;

  constructor(limits: SchedulerLimits, work: TokenWork) {
    this.#limits = limits;
    this.#work = work;
  }

  /** True while a request waits or runs. */
  get hasWork(): boolean {
    return this.#running.length > 0 || this.#first < this.#waiting.length;
  }

  get running(): number {
    return this.#running.length;
  }

  add(request: Request): void {
    if (need(request) > this.#limits.kvTokens) this.totals.refused += 1;
    else this.#waiting.push(request);
  }

  /** One step: a token for every running request, then pieces of prompts. Does nothing without work. */
  step(): void {
    this.#admit();
    let budget = this.#limits.tokensPerStep;
    for (const running of this.#running) {
      if (running.promptDone < running.request.promptTokens || budget === 0) continue;
      running.state = this.#work.decode(running.state);
      running.generated += 1;
      this.totals.generatedTokens += 1;
      budget -= 1;
    }
    for (const running of this.#running) {
      const tokens = Math.min(budget, running.request.promptTokens - running.promptDone);
      if (tokens <= 0) continue;
      running.state = this.#work.prefill(running.state, tokens);
      running.promptDone += tokens;
      this.totals.promptTokens += tokens;
      budget -= tokens;
    }
    this.#running = this.#running.filter((running) => !this.#finish(running));
  }

  #admit(): void {
    while (this.#running.length < this.#limits.maxBatch) {
      const next = this.#waiting[this.#first];
      // Strictly in order: a long request at the head waits for room instead of being overtaken for ever.
      if (next === undefined || this.#kvUsed + need(next) > this.#limits.kvTokens) break;
      this.#first += 1;
      this.#kvUsed += need(next);
      this.totals.peakKvTokens = Math.max(this.totals.peakKvTokens, this.#kvUsed);
      this.#running.push({ request: next, promptDone: 0, generated: 0, state: this.#work.start(next.index) });
    }
    if (this.#first > 1024) {
      this.#waiting = this.#waiting.slice(this.#first);
      this.#first = 0;
    }
  }

  #finish({ request, promptDone, generated, state }: Running): boolean {
    if (promptDone < request.promptTokens || generated < request.generatedTokens) return false;
    this.#kvUsed -= need(request);
    this.totals.finished += 1;
    this.totals.checksum = (this.totals.checksum ^ this.#work.checksum(request.index, state)) >>> 0;
    return true;
  }
}

/** KV-cache tokens of a request. Reserved as a whole: the trace tells how long the answer will be. */
function need(request: Request): number {
  return request.promptTokens + request.generatedTokens;
}
