/** Executor classes as values of `distributedExecutorBackend`. */

/**
 * The base class of executors. A class given as `distributedExecutorBackend` has to derive from it, directly
 * or not.
 *
 * ```ts
 * class MyExecutor extends Executor { static override usesRay = true; }
 * new ParallelConfig({ distributedExecutorBackend: MyExecutor });
 * ```
 */
// biome-ignore lint/complexity/noStaticOnlyClass: a base for classes that do more than this package asks of them
export class Executor {
  /** Whether its workers run with Ray. */
  static usesRay = false;
}

/** A class, as far as configuration looks at it. */
export interface ExecutorClass {
  new (...args: never[]): unknown;
  readonly name: string;
  readonly usesRay?: boolean;
  /** Name of the module it comes from, for messages. JavaScript does not know it; `custom` otherwise. */
  readonly moduleName?: string;
}

export function isExecutorClass(value: ExecutorClass): boolean {
  return (value as unknown) === Executor || (value as { prototype?: unknown }).prototype instanceof Executor;
}

/** `<class 'module.Name'>` */
export function printClass(value: ExecutorClass): string {
  return `<class '${value.moduleName ?? 'custom'}.${value.name}'>`;
}
