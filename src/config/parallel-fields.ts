// Written by scripts/docs-config.mjs from the schema; do not edit.
import type { ParallelInput, ParallelOutput } from './parallel-schema.ts';

/** What a ParallelConfig is made from: every field is optional. */
export interface ParallelConfigInput {
  /** Stages that the layers are split into. Default 1. vLLM: `pipeline_parallel_size`. */
  pipelineParallelSize?: ParallelInput['pipelineParallelSize'];
  /** Ranks that each layer is split over. Default 1. vLLM: `tensor_parallel_size`. */
  tensorParallelSize?: ParallelInput['tensorParallelSize'];
  /** Ranks that the context of a prefill is split over. Default 1. vLLM: `prefill_context_parallel_size`. */
  prefillContextParallelSize?: ParallelInput['prefillContextParallelSize'];
  /**
   * Replicas of the model that take requests. At 1 or less (and dataParallelSizeLocal other than 0) the
   * environment decides: VLLM_DP_SIZE. Default 1. vLLM: `data_parallel_size`.
   */
  dataParallelSize?: ParallelInput['dataParallelSize'];
  /**
   * Replicas on this host. 0 stands for data parallelism set up from outside. Default 1. vLLM:
   * `data_parallel_size_local`.
   */
  dataParallelSizeLocal?: ParallelInput['dataParallelSizeLocal'];
  /**
   * Number of this replica, from 0. Without data parallelism by argument: VLLM_DP_RANK. Default 0. vLLM:
   * `data_parallel_rank`.
   */
  dataParallelRank?: ParallelInput['dataParallelRank'];
  /**
   * Number of this replica on its host. Without data parallelism by argument: VLLM_DP_RANK_LOCAL.
   * Default null. vLLM: `data_parallel_rank_local`.
   */
  dataParallelRankLocal?: ParallelInput['dataParallelRankLocal'];
  /**
   * Address of rank 0 of the data-parallel group. Without data parallelism by argument:
   * VLLM_DP_MASTER_IP. Default '127.0.0.1'. vLLM: `data_parallel_master_ip`.
   */
  dataParallelMasterIp?: ParallelInput['dataParallelMasterIp'];
  /** Port for messages between replicas. Default 29550. vLLM: `data_parallel_rpc_port`. */
  dataParallelRpcPort?: ParallelInput['dataParallelRpcPort'];
  /**
   * Port given out once the port list is empty; then it counts up. Always replaced: by a free port with
   * data parallelism by argument, else by VLLM_DP_MASTER_PORT. Default 29500. vLLM:
   * `data_parallel_master_port`.
   */
  dataParallelMasterPort?: ParallelInput['dataParallelMasterPort'];
  /** What starts the replicas. Default 'mp'. vLLM: `data_parallel_backend`. */
  dataParallelBackend?: ParallelInput['dataParallelBackend'];
  /**
   * A load balancer outside chooses the replica. Needs data parallelism. Default false. vLLM:
   * `data_parallel_external_lb`.
   */
  dataParallelExternalLb?: ParallelInput['dataParallelExternalLb'];
  /**
   * A load balancer outside chooses the host, the engine the replica. Default false. vLLM:
   * `data_parallel_hybrid_lb`.
   */
  dataParallelHybridLb?: ParallelInput['dataParallelHybridLb'];
  /** Whether the model has experts; null where that is not known. Default null. vLLM: `is_moe_model`. */
  isMoeModel?: ParallelInput['isMoeModel'];
  /** Splits experts, not each of their layers. Default false. vLLM: `enable_expert_parallel`. */
  enableExpertParallel?: ParallelInput['enableExpertParallel'];
  /** Balances the load of experts. Needs enableExpertParallel. Default false. vLLM: `enable_eplb`. */
  enableEplb?: ParallelInput['enableEplb'];
  /**
   * How the load of experts is balanced: an EPLBConfig, or settings for one. Default all defaults. vLLM:
   * `eplb_config`.
   */
  eplbConfig?: ParallelInput['eplbConfig'];
  /**
   * Which experts go to which rank: neighbours together, or dealt out in turn. Default 'linear'. vLLM:
   * `expert_placement_strategy`.
   */
  expertPlacementStrategy?: ParallelInput['expertPlacementStrategy'];
  /**
   * How tokens travel between experts. VLLM_ALL2ALL_BACKEND, where set, comes before the argument.
   * Default 'allgather_reducescatter'. vLLM: `all2all_backend`.
   */
  all2allBackend?: ParallelInput['all2allBackend'];
  /** Not supported and ignored, with a warning. Default null. vLLM: `max_parallel_loading_workers`. */
  maxParallelLoadingWorkers?: ParallelInput['maxParallelLoadingWorkers'];
  /**
   * No own all-reduce kernels. Becomes true where the platform has none, over several nodes, and for
   * batch-invariant results. Default false. vLLM: `disable_custom_all_reduce`.
   */
  disableCustomAllReduce?: ParallelInput['disableCustomAllReduce'];
  /** Two batches overlap: one computes while the other communicates. Default false. vLLM: `enable_dbo`. */
  enableDbo?: ParallelInput['enableDbo'];
  /** Micro-batches that a batch is split into; 0 and 1 are none. Default 0. vLLM: `ubatch_size`. */
  ubatchSize?: ParallelInput['ubatchSize'];
  /** Tokens from which a batch of decodes only is split. Default 32. vLLM: `dbo_decode_token_threshold`. */
  dboDecodeTokenThreshold?: ParallelInput['dboDecodeTokenThreshold'];
  /** Tokens from which a batch with prefills is split. Default 512. vLLM: `dbo_prefill_token_threshold`. */
  dboPrefillTokenThreshold?: ParallelInput['dboPrefillTokenThreshold'];
  /**
   * Votes between replicas go over Gloo, not NCCL. Default null. vLLM:
   * `disable_nccl_for_dp_synchronization`.
   */
  disableNcclForDpSynchronization?: ParallelInput['disableNcclForDpSynchronization'];
  /** Profiles Ray workers with Nsight. Default false. vLLM: `ray_workers_use_nsight`. */
  rayWorkersUseNsight?: ParallelInput['rayWorkersUseNsight'];
  /** Runtime environment for Ray workers; taken as it is. Default null. vLLM: `ray_runtime_env`. */
  rayRuntimeEnv?: ParallelInput['rayRuntimeEnv'];
  /** Ray placement group of the workers; taken as it is. Default null. vLLM: `placement_group`. */
  placementGroup?: ParallelInput['placementGroup'];
  /**
   * What runs the workers: 'ray', 'mp', 'uni', 'external_launcher', the import path of an executor, or a
   * class derived from Executor. null chooses by world size and platform. Default null. vLLM:
   * `distributed_executor_backend`.
   */
  distributedExecutorBackend?: ParallelInput['distributedExecutorBackend'];
  /** Import path of the worker class. Default 'auto'. vLLM: `worker_cls`. */
  workerCls?: ParallelInput['workerCls'];
  /** Import path of the worker class for speculative decoding. Default 'auto'. vLLM: `sd_worker_cls`. */
  sdWorkerCls?: ParallelInput['sdWorkerCls'];
  /** Import path of a class that is added to the worker class. Default ''. vLLM: `worker_extension_cls`. */
  workerExtensionCls?: ParallelInput['workerExtensionCls'];
  /**
   * Address of the first node, for executors over several nodes. Default '127.0.0.1'. vLLM:
   * `master_addr`.
   */
  masterAddr?: ParallelInput['masterAddr'];
  /** Port on the first node, for executors over several nodes. Default 29501. vLLM: `master_port`. */
  masterPort?: ParallelInput['masterPort'];
  /** Number of this node, from 0. Default 0. vLLM: `node_rank`. */
  nodeRank?: ParallelInput['nodeRank'];
  /** Nodes of one deployment. Above 1 only with mp, uni or external_launcher. Default 1. vLLM: `nnodes`. */
  nnodes?: ParallelInput['nnodes'];
  /** This process's number over all replicas, from 0. Default 0. vLLM: `rank`. */
  rank?: ParallelInput['rank'];
  /**
   * Ports for data-parallel groups, given out from the end. Filled with 5 free ones with data
   * parallelism by argument. Default []. vLLM: `_data_parallel_master_port_list`.
   */
  _dataParallelMasterPortList?: ParallelInput['_dataParallelMasterPortList'];
  /** Ranks that the context of a decode is split over. Default 1. vLLM: `decode_context_parallel_size`. */
  decodeContextParallelSize?: ParallelInput['decodeContextParallelSize'];
  /**
   * Tokens that stay together when decode context is split. Default 1. vLLM:
   * `dcp_kv_cache_interleave_size`.
   */
  dcpKvCacheInterleaveSize?: ParallelInput['dcpKvCacheInterleaveSize'];
  /** Tokens that stay together when context is split. Default 1. vLLM: `cp_kv_cache_interleave_size`. */
  cpKvCacheInterleaveSize?: ParallelInput['cpKvCacheInterleaveSize'];
  /** API server processes. Default 1. vLLM: `_api_process_count`. */
  _apiProcessCount?: ParallelInput['_apiProcessCount'];
  /**
   * Number of this API server process, from 0; -1 where this process is none. Default 0. vLLM:
   * `_api_process_rank`.
   */
  _apiProcessRank?: ParallelInput['_apiProcessRank'];
}

/** The fields of a ParallelConfig. */
export interface ParallelFields {
  /** Stages that the layers are split into. Default 1. vLLM: `pipeline_parallel_size`. */
  pipelineParallelSize: ParallelOutput['pipelineParallelSize'];
  /** Ranks that each layer is split over. Default 1. vLLM: `tensor_parallel_size`. */
  tensorParallelSize: ParallelOutput['tensorParallelSize'];
  /** Ranks that the context of a prefill is split over. Default 1. vLLM: `prefill_context_parallel_size`. */
  prefillContextParallelSize: ParallelOutput['prefillContextParallelSize'];
  /**
   * Replicas of the model that take requests. At 1 or less (and dataParallelSizeLocal other than 0) the
   * environment decides: VLLM_DP_SIZE. Default 1. vLLM: `data_parallel_size`.
   */
  dataParallelSize: ParallelOutput['dataParallelSize'];
  /**
   * Replicas on this host. 0 stands for data parallelism set up from outside. Default 1. vLLM:
   * `data_parallel_size_local`.
   */
  dataParallelSizeLocal: ParallelOutput['dataParallelSizeLocal'];
  /**
   * Number of this replica, from 0. Without data parallelism by argument: VLLM_DP_RANK. Default 0. vLLM:
   * `data_parallel_rank`.
   */
  dataParallelRank: ParallelOutput['dataParallelRank'];
  /**
   * Number of this replica on its host. Without data parallelism by argument: VLLM_DP_RANK_LOCAL.
   * Default null. vLLM: `data_parallel_rank_local`.
   */
  dataParallelRankLocal: ParallelOutput['dataParallelRankLocal'];
  /**
   * Address of rank 0 of the data-parallel group. Without data parallelism by argument:
   * VLLM_DP_MASTER_IP. Default '127.0.0.1'. vLLM: `data_parallel_master_ip`.
   */
  dataParallelMasterIp: ParallelOutput['dataParallelMasterIp'];
  /** Port for messages between replicas. Default 29550. vLLM: `data_parallel_rpc_port`. */
  dataParallelRpcPort: ParallelOutput['dataParallelRpcPort'];
  /**
   * Port given out once the port list is empty; then it counts up. Always replaced: by a free port with
   * data parallelism by argument, else by VLLM_DP_MASTER_PORT. Default 29500. vLLM:
   * `data_parallel_master_port`.
   */
  dataParallelMasterPort: ParallelOutput['dataParallelMasterPort'];
  /** What starts the replicas. Default 'mp'. vLLM: `data_parallel_backend`. */
  dataParallelBackend: ParallelOutput['dataParallelBackend'];
  /**
   * A load balancer outside chooses the replica. Needs data parallelism. Default false. vLLM:
   * `data_parallel_external_lb`.
   */
  dataParallelExternalLb: ParallelOutput['dataParallelExternalLb'];
  /**
   * A load balancer outside chooses the host, the engine the replica. Default false. vLLM:
   * `data_parallel_hybrid_lb`.
   */
  dataParallelHybridLb: ParallelOutput['dataParallelHybridLb'];
  /** Whether the model has experts; null where that is not known. Default null. vLLM: `is_moe_model`. */
  isMoeModel: ParallelOutput['isMoeModel'];
  /** Splits experts, not each of their layers. Default false. vLLM: `enable_expert_parallel`. */
  enableExpertParallel: ParallelOutput['enableExpertParallel'];
  /** Balances the load of experts. Needs enableExpertParallel. Default false. vLLM: `enable_eplb`. */
  enableEplb: ParallelOutput['enableEplb'];
  /**
   * How the load of experts is balanced: an EPLBConfig, or settings for one. Default all defaults. vLLM:
   * `eplb_config`.
   */
  eplbConfig: ParallelOutput['eplbConfig'];
  /**
   * Which experts go to which rank: neighbours together, or dealt out in turn. Default 'linear'. vLLM:
   * `expert_placement_strategy`.
   */
  expertPlacementStrategy: ParallelOutput['expertPlacementStrategy'];
  /**
   * How tokens travel between experts. VLLM_ALL2ALL_BACKEND, where set, comes before the argument.
   * Default 'allgather_reducescatter'. vLLM: `all2all_backend`.
   */
  all2allBackend: ParallelOutput['all2allBackend'];
  /** Not supported and ignored, with a warning. Default null. vLLM: `max_parallel_loading_workers`. */
  maxParallelLoadingWorkers: ParallelOutput['maxParallelLoadingWorkers'];
  /**
   * No own all-reduce kernels. Becomes true where the platform has none, over several nodes, and for
   * batch-invariant results. Default false. vLLM: `disable_custom_all_reduce`.
   */
  disableCustomAllReduce: ParallelOutput['disableCustomAllReduce'];
  /** Two batches overlap: one computes while the other communicates. Default false. vLLM: `enable_dbo`. */
  enableDbo: ParallelOutput['enableDbo'];
  /** Micro-batches that a batch is split into; 0 and 1 are none. Default 0. vLLM: `ubatch_size`. */
  ubatchSize: ParallelOutput['ubatchSize'];
  /** Tokens from which a batch of decodes only is split. Default 32. vLLM: `dbo_decode_token_threshold`. */
  dboDecodeTokenThreshold: ParallelOutput['dboDecodeTokenThreshold'];
  /** Tokens from which a batch with prefills is split. Default 512. vLLM: `dbo_prefill_token_threshold`. */
  dboPrefillTokenThreshold: ParallelOutput['dboPrefillTokenThreshold'];
  /**
   * Votes between replicas go over Gloo, not NCCL. Default null. vLLM:
   * `disable_nccl_for_dp_synchronization`.
   */
  disableNcclForDpSynchronization: ParallelOutput['disableNcclForDpSynchronization'];
  /** Profiles Ray workers with Nsight. Default false. vLLM: `ray_workers_use_nsight`. */
  rayWorkersUseNsight: ParallelOutput['rayWorkersUseNsight'];
  /** Runtime environment for Ray workers; taken as it is. Default null. vLLM: `ray_runtime_env`. */
  rayRuntimeEnv: ParallelOutput['rayRuntimeEnv'];
  /** Ray placement group of the workers; taken as it is. Default null. vLLM: `placement_group`. */
  placementGroup: ParallelOutput['placementGroup'];
  /**
   * What runs the workers: 'ray', 'mp', 'uni', 'external_launcher', the import path of an executor, or a
   * class derived from Executor. null chooses by world size and platform. Default null. vLLM:
   * `distributed_executor_backend`.
   */
  distributedExecutorBackend: ParallelOutput['distributedExecutorBackend'];
  /** Import path of the worker class. Default 'auto'. vLLM: `worker_cls`. */
  workerCls: ParallelOutput['workerCls'];
  /** Import path of the worker class for speculative decoding. Default 'auto'. vLLM: `sd_worker_cls`. */
  sdWorkerCls: ParallelOutput['sdWorkerCls'];
  /** Import path of a class that is added to the worker class. Default ''. vLLM: `worker_extension_cls`. */
  workerExtensionCls: ParallelOutput['workerExtensionCls'];
  /**
   * Address of the first node, for executors over several nodes. Default '127.0.0.1'. vLLM:
   * `master_addr`.
   */
  masterAddr: ParallelOutput['masterAddr'];
  /** Port on the first node, for executors over several nodes. Default 29501. vLLM: `master_port`. */
  masterPort: ParallelOutput['masterPort'];
  /** Number of this node, from 0. Default 0. vLLM: `node_rank`. */
  nodeRank: ParallelOutput['nodeRank'];
  /** Nodes of one deployment. Above 1 only with mp, uni or external_launcher. Default 1. vLLM: `nnodes`. */
  nnodes: ParallelOutput['nnodes'];
  /**
   * Ranks of one replica: pipeline x tensor x prefill context; times dataParallelSize under
   * external_launcher. Computed, not an argument. vLLM: `world_size`.
   */
  worldSize: ParallelOutput['worldSize'];
  /** This process's number over all replicas, from 0. Default 0. vLLM: `rank`. */
  rank: ParallelOutput['rank'];
  /**
   * Ports for data-parallel groups, given out from the end. Filled with 5 free ones with data
   * parallelism by argument. Default []. vLLM: `_data_parallel_master_port_list`.
   */
  _dataParallelMasterPortList: ParallelOutput['_dataParallelMasterPortList'];
  /** Ranks that the context of a decode is split over. Default 1. vLLM: `decode_context_parallel_size`. */
  decodeContextParallelSize: ParallelOutput['decodeContextParallelSize'];
  /**
   * Tokens that stay together when decode context is split. Default 1. vLLM:
   * `dcp_kv_cache_interleave_size`.
   */
  dcpKvCacheInterleaveSize: ParallelOutput['dcpKvCacheInterleaveSize'];
  /** Tokens that stay together when context is split. Default 1. vLLM: `cp_kv_cache_interleave_size`. */
  cpKvCacheInterleaveSize: ParallelOutput['cpKvCacheInterleaveSize'];
  /** dataParallelRank as resolved. Computed, not an argument. vLLM: `data_parallel_index`. */
  dataParallelIndex: ParallelOutput['dataParallelIndex'];
  /** API server processes. Default 1. vLLM: `_api_process_count`. */
  _apiProcessCount: ParallelOutput['_apiProcessCount'];
  /**
   * Number of this API server process, from 0; -1 where this process is none. Default 0. vLLM:
   * `_api_process_rank`.
   */
  _apiProcessRank: ParallelOutput['_apiProcessRank'];
}
