/**
 * The fields of EPLBConfig. `npm run docs:config` writes their types, with comments, from the descriptions.
 */
import { toBool, toInt, toLiteral } from './convert.ts';
import { namesOf } from './names.ts';
import { once, vocabulary, type Z, type Zod, zod } from './zod.ts';

function define(z: Z) {
  const { field } = vocabulary(z);
  const int = (otherwise: number, doc: string) => field(toInt, z.int(), otherwise, 'hashed', doc);
  const bool = (otherwise: boolean, doc: string) => field(toBool, z.boolean(), otherwise, 'hashed', doc);
  return z.object({
    windowSize: int(1000, 'Steps over which the load of experts is recorded.'),
    stepInterval: int(3000, 'Steps between two rearrangements of experts.'),
    numRedundantExperts: field(
      toInt,
      z.int().gte(0),
      0,
      'hashed',
      'Experts held twice, beyond those of the model. Needs `enableEplb`.',
    ),
    logBalancedness: bool(false, 'Logs how evenly experts are loaded, at the price of communication.'),
    logBalancednessInterval: int(1, 'Steps between two such log lines; above 0 while they are logged.'),
    useAsync: bool(false, 'Rearranges experts in the background.'),
    policy: field(
      toLiteral(['default']) as (input: unknown) => { value: 'default' },
      z.enum(['default']),
      'default',
      'hashed',
      'How experts are placed.',
    ),
  });
}

export const eplbSchema = once(() => define(zod()));
export const eplbNames = once(() => namesOf(Object.keys(eplbSchema().shape)));

/** Types of the fields, as given and as converted. */
export type EplbInput = Zod.input<ReturnType<typeof define>>;
export type EplbOutput = Zod.output<ReturnType<typeof define>>;
