/** The state of a group on this rank, and the failure that ended it. */
import { ClosedError, CollectivesError, InvalidArgumentError, UnsupportedError } from '../errors.ts';
import type { GroupInfo } from './info.ts';

export class Life {
  state: GroupInfo['state'] = 'open';
  failure: CollectivesError | undefined;
  readonly #onFailure: (error: CollectivesError) => void;

  /** `onFailure` is called once, before anybody else hears of it. */
  constructor(onFailure: (error: CollectivesError) => void) {
    this.#onFailure = onFailure;
  }

  /** A call may fail a moment before the event that says so: whoever catches its error sees a failed group. */
  noted(error: unknown): unknown {
    if (!(error instanceof CollectivesError)) return error;
    if (error instanceof InvalidArgumentError || error instanceof ClosedError) return error;
    if (error instanceof UnsupportedError) return error;
    this.fail(error);
    return error;
  }

  fail(error: CollectivesError): void {
    this.state = 'failed';
    if (this.failure !== undefined) return;
    this.failure = error;
    this.#onFailure(error);
  }
}
