/** Before each file of the projects `hosts` and `hosts-3`: at its end, whatever becomes of it, its network goes. */
import { afterAll } from 'vitest';
import { endSpread } from './spread.ts';

afterAll(() => endSpread());
