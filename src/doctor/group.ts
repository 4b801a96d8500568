/** Whether a group of two ranks forms here, and how fast it is. */
import { CollectivesError } from '../errors.ts';
import { type Finding, ok, problem } from './finding.ts';
import { measure } from './measure.ts';

const votes = 500;

export async function twoRanks(): Promise<Finding> {
  const subject = 'two ranks';
  try {
    const { formedMs, voteMicros } = await measure(2, votes, () => ({
      backend: 'gloo',
      initTimeoutMs: 10_000,
    }));
    return ok(
      subject,
      `a group forms in ${formedMs.toFixed(1)} ms here; a vote takes ${voteMicros.toFixed(0)} µs (median)`,
      { formedMs, voteMicros },
    );
  } catch (error) {
    if (!(error instanceof CollectivesError)) throw error;
    return problem(subject, `${error.message} (${error.code})`, 'docs/errors.md says what the code means');
  }
}
