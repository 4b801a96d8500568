// Written by scripts/docs-config.mjs from the schema; do not edit.
import type { EplbInput, EplbOutput } from './eplb-schema.ts';

/** What an EPLBConfig is made from: every field is optional. */
export interface EPLBConfigInput {
  /** Steps over which the load of experts is recorded. Default 1000. vLLM: `window_size`. */
  windowSize?: EplbInput['windowSize'];
  /** Steps between two rearrangements of experts. Default 3000. vLLM: `step_interval`. */
  stepInterval?: EplbInput['stepInterval'];
  /**
   * Experts held twice, beyond those of the model. Needs `enableEplb`. Default 0. vLLM:
   * `num_redundant_experts`.
   */
  numRedundantExperts?: EplbInput['numRedundantExperts'];
  /**
   * Logs how evenly experts are loaded, at the price of communication. Default false. vLLM:
   * `log_balancedness`.
   */
  logBalancedness?: EplbInput['logBalancedness'];
  /**
   * Steps between two such log lines; above 0 while they are logged. Default 1. vLLM:
   * `log_balancedness_interval`.
   */
  logBalancednessInterval?: EplbInput['logBalancednessInterval'];
  /** Rearranges experts in the background. Default false. vLLM: `use_async`. */
  useAsync?: EplbInput['useAsync'];
  /** How experts are placed. Default 'default'. vLLM: `policy`. */
  policy?: EplbInput['policy'];
}

/** The fields of an EPLBConfig. */
export interface EPLBFields {
  /** Steps over which the load of experts is recorded. Default 1000. vLLM: `window_size`. */
  windowSize: EplbOutput['windowSize'];
  /** Steps between two rearrangements of experts. Default 3000. vLLM: `step_interval`. */
  stepInterval: EplbOutput['stepInterval'];
  /**
   * Experts held twice, beyond those of the model. Needs `enableEplb`. Default 0. vLLM:
   * `num_redundant_experts`.
   */
  numRedundantExperts: EplbOutput['numRedundantExperts'];
  /**
   * Logs how evenly experts are loaded, at the price of communication. Default false. vLLM:
   * `log_balancedness`.
   */
  logBalancedness: EplbOutput['logBalancedness'];
  /**
   * Steps between two such log lines; above 0 while they are logged. Default 1. vLLM:
   * `log_balancedness_interval`.
   */
  logBalancednessInterval: EplbOutput['logBalancednessInterval'];
  /** Rearranges experts in the background. Default false. vLLM: `use_async`. */
  useAsync: EplbOutput['useAsync'];
  /** How experts are placed. Default 'default'. vLLM: `policy`. */
  policy: EplbOutput['policy'];
}
