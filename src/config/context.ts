/** Where a configuration looks things up. */
import { refuse } from '../arguments.ts';
import { checkIsEnvironment } from '../environment.ts';
import { checkNames, optionNames } from '../option-names.ts';
import type { HostFacts } from './host.ts';
import type { Environment } from './resolve.ts';

/** Where a configuration looks things up. */
export interface ConfigContext {
  /** Environment variables; `process.env` otherwise. VLLM_ENABLE_V1_MULTIPROCESSING may be written to it. */
  env?: Environment;
  /** Facts about the machine; this machine otherwise. */
  host?: HostFacts;
  /** Takes warnings; `process.emitWarning` otherwise, each "once" text once in a thread. */
  onWarning?: (text: string) => void;
  /** Told for each field that resolution set where its value came from. */
  onSource?: (field: string, source: string) => void;
}

const op = 'ParallelConfig';
const names = optionNames<ConfigContext>({ env: true, host: true, onWarning: true, onSource: true });

/** @throws InvalidArgumentError; what the settings are refused with is vLLM's, and another class. */
export function checkContext(context: unknown): asserts context is ConfigContext {
  if (typeof context !== 'object' || context === null) throw refuse(op, 'context', 'an object', context);
  checkNames(op, context, names, 'context');
  const { env, host, onWarning, onSource } = context as ConfigContext;
  if (env !== undefined) checkIsEnvironment(op, env);
  // No more of the two: they are looked at when something is needed, and not before.
  if (host !== undefined && (typeof host !== 'object' || host === null)) {
    throw refuse(op, 'host', 'facts about a machine, as detectHost() gives them', host);
  }
  for (const [name, value] of Object.entries({ onWarning, onSource })) {
    if (value !== undefined && typeof value !== 'function') throw refuse(op, name, 'a function', value);
  }
}
