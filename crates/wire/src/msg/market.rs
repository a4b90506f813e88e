//! What callers want of the market, and what they may know of it: extensions of ours, protocol version 3.
//!
//! A reference peer never sees these messages: it negotiates version 2 at most.

use cocoon_tl::Flags;

cocoon_tl::tl_objects! {
    /// Asks for an HTTP request to be run, with wishes about the worker.
    ///
    /// C → P, packet, version at least 3.
    "client.runQueryRouted model_name:string query:bytes max_coefficient:int max_tokens:int timeout:double request_id:int256 min_config_version:int flags:# enable_debug:flags.0?Bool sort:int retries:int allow:vector string exclude:vector string = client.QueryAnswerEx",
    pub struct RunQueryRouted {
        /// Base name of the model.
        model_name: String,
        /// A boxed `http.request`.
        @hidden query: Vec<u8>,
        /// Highest acceptable price factor in thousandths.
        max_coefficient: i32,
        /// Output budget in model tokens.
        max_tokens: i32,
        /// Seconds.
        timeout: f64,
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
        /// The version of the root config that the asker holds.
        min_config_version: i32,
        /// Flag bits without a field.
        flags: Flags,
        /// Whether debug texts are wanted.
        enable_debug(flags.0): bool,
        /// 0 balanced, 1 price, 2 latency, 3 throughput; anything else counts as 0.
        sort: i32,
        /// Further workers to be tried before the first byte; negative leaves it to the proxy.
        retries: i32,
        /// Owners of the only workers that may answer; empty allows all.
        allow: Vec<String>,
        /// Owners of workers that must not answer.
        exclude: Vec<String>,
    }

    /// Asks for the models and what is known of their workers.
    ///
    /// C → P, query, version at least 3.
    #[derive(Copy, Eq, Default)]
    "client.getWorkerTypesV3 = client.WorkerTypesV3",
    pub struct GetWorkerTypesV3 {}

    /// One worker with what was measured of it.
    "client.workerInstanceV3 flags:# owner_address:string coefficient:int active_requests:int max_active_requests:int failed_permille:int first_byte_ms:flags.0?int token_us:flags.1?int = client.WorkerInstanceV3",
    pub struct WorkerInstanceV3 {
        /// Flag bits without a field.
        flags: Flags,
        /// Owner of the worker, which names it in `allow` and `exclude`.
        owner_address: String,
        /// Price factor in thousandths.
        coefficient: i32,
        /// Requests that run now.
        active_requests: i32,
        /// Requests that may run at once.
        max_active_requests: i32,
        /// Share of recent requests that failed, in thousandths.
        failed_permille: i32,
        /// Mean time to the first byte.
        first_byte_ms(flags.0): i32,
        /// Mean time per token, microseconds.
        token_us(flags.1): i32,
    }

    /// The enabled workers of one model, cheapest first.
    "client.workerTypeV3 name:string workers:vector client.workerInstanceV3 = client.WorkerTypeV3",
    pub struct WorkerTypeV3 {
        /// Base name of the model.
        name: String,
        /// Enabled workers.
        workers: Vec<WorkerInstanceV3>,
    }

    /// All models with their workers.
    ///
    /// P → C, query answer, version at least 3.
    "client.workerTypesV3 types:vector client.workerTypeV3 = client.WorkerTypesV3",
    pub struct WorkerTypesV3 {
        /// One element a model.
        types: Vec<WorkerTypeV3>,
    }
}
