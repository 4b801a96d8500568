/** What the campaigns and their rank processes say to each other. */

/** Of an error, what can be sent. */
export interface Facts {
  name: string;
  code: string;
  message: string;
  rank?: number;
  host?: string;
  pid?: number;
  op?: string;
  seq?: number;
  peer?: number;
  peerHost?: string;
  peerPid?: number;
  detectedBy?: number;
  consequence?: boolean;
  missing?: number[];
}

export type Command =
  | {
      do: 'join';
      /** The coordination store of the campaign on 127.0.0.1; 0 for none. */
      storePort: number;
      options: Record<string, unknown>;
      work: 'busy' | 'idle';
      seed: number;
      /** Of the work: see step(). */
      scale?: number | undefined;
    }
  | { do: 'reform'; timeoutMs: number; ranks?: number[]; worldSize?: number }
  /** So many operations, then what they cost. */
  | { do: 'sail'; steps: number; seed: number; scale: number }
  | { do: 'info' }
  | { do: 'abort'; how: 'call' | 'signal'; reason: string }
  | { do: 'leave' };

/** Times are nanoseconds of CLOCK_MONOTONIC. */
export type Said =
  | { event: 'ready'; at: number }
  | { event: 'formed'; at: number }
  | { event: 'knew'; at: number; error: Facts }
  | { event: 'ended'; at: number; error: Facts }
  | { event: 'aborting'; at: number }
  | { event: 'reformed'; at: number; began: number; rank: number; size: number }
  | { event: 'sailed'; at: number; voteMicros: number; held: Held }
  | { event: 'info'; at: number; next: Record<string, unknown> }
  | { event: 'left'; at: number; ms: number };

/** What a process holds of the operating system. */
export interface Held {
  /** MiB. */
  resident: number;
  descriptors: number;
  threads: number;
}
