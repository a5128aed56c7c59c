//! Every queue, body, loop and memory in Obsidian has its limit here, under one name.

/// Longest HTTP request body, bytes.
pub const MAX_BODY_BYTES: usize = 4 << 20;
/// Bytes past that limit which are read and thrown away, so that the client hears the refusal.
pub const MAX_DISCARDED_BODY_BYTES: usize = 60 << 20;
/// Most messages in one request.
pub const MAX_MESSAGES: usize = 512;
/// Longest text over all fields of one request, bytes.
pub const MAX_PROMPT_BYTES: usize = 1 << 20;
/// Most answers to one request (`n`, times the prompts where there are several); each runs at the same time and counts as a request in flight.
pub const MAX_CHOICES: u32 = 8;
/// Most functions one request offers.
pub const MAX_TOOLS: usize = 128;
/// Most tool calls in one message of a request, or in one answer.
pub const MAX_TOOL_CALLS: usize = 128;
/// Longest tool name (OpenAI's own limit).
pub const MAX_TOOL_NAME_CHARACTERS: usize = 64;
/// Most separate texts in one request: contents, names, strings and keys inside JSON.
pub const MAX_TEXT_LEAVES: usize = 16_384;
/// Most stop strings in one request (OpenAI's own limit).
pub const MAX_STOP_STRINGS: usize = 4;
/// Longest stop string, bytes.
pub const MAX_STOP_BYTES: usize = 256;
/// Highest temperature.
pub const MAX_TEMPERATURE: f32 = 2.0;
/// Largest frequency and presence penalty, either sign (OpenAI's own limit).
pub const MAX_PENALTY: f32 = 2.0;
/// Largest logit bias, either sign (OpenAI's own limit); the most negative bans the token.
pub const MAX_LOGIT_BIAS: f32 = 100.0;
/// Most tokens one request may bias (OpenAI's own limit).
pub const MAX_LOGIT_BIAS_ENTRIES: usize = 300;
/// Most alternatives reported for each token with `logprobs` (OpenAI's own limit).
pub const MAX_TOP_LOGPROBS: u8 = 20;
/// Answer length when the client names none, tokens.
pub const DEFAULT_MAX_TOKENS: u32 = 256;
/// Most distinct values one request's vault holds.
pub const MAX_VAULT_VALUES: u32 = 4_096;
/// Answers in flight on one POP (a request with several choices counts as several); the next waits in the queue.
pub const MAX_INFLIGHT_REQUESTS: usize = 512;
/// Commands waiting for one drafter sandbox; the next gets 503.
pub const MAX_DRAFTER_QUEUE: usize = 256;
/// Sandboxes of one drafter; each has a thread.
pub const MAX_DRAFTER_WORKERS: usize = 64;
/// Sessions open in one drafter sandbox; the next gets 503.
pub const MAX_DRAFTER_SESSIONS: usize = 256;
/// Sessions that one call into a drafter advances together.
pub const MAX_DRAFTER_BATCH: usize = 64;
/// Large vocabularies of which a drafter's host keeps what was found by looking through them.
pub const MAX_SURVEYS: usize = 8;
/// What is kept of one of them, bytes.
pub const MAX_SURVEY_BYTES: usize = 16 << 20;
/// Largest weight file that is copied into sealed memory, bytes; larger ones go through the weight store.
pub const MAX_SEALED_WEIGHT_BYTES: u64 = 64 << 20;
/// Regions of one sandbox on which weights lie.
pub const MAX_WEIGHT_REGIONS: usize = 32;
/// Jobs waiting for the compute pool; the next gets 503.
pub const MAX_COMPUTE_QUEUE: usize = 1_024;
/// Threads of one hub engine.
pub const MAX_ENGINE_THREADS: usize = 256;
/// Tokens drafted per window.
pub const MAX_DRAFT_WINDOW: u32 = 16;
/// Chunks waiting for a slow client before the pipeline waits too.
pub const MAX_STREAM_CHUNKS: usize = 32;
/// Longest gRPC message on the verify link, bytes.
pub const MAX_WIRE_MESSAGE_BYTES: usize = 1 << 20;
/// Streams a hub verifies at once; the next is refused as overloaded.
pub const MAX_HUB_SESSIONS: usize = 256;
/// Commands waiting for a hub's scheduler.
pub const MAX_HUB_QUEUE: usize = 1_024;
/// Linear memory of one function sandbox, bytes.
pub const MAX_FUNCTION_MEMORY_BYTES: usize = 64 << 20;
/// Function sandboxes alive at once: one restorer for each request in flight, and those that compute.
pub const MAX_FUNCTION_INSTANCES: u32 = 640;
/// Linear memory of one model sandbox, bytes, attached weights included.
pub const MAX_MODEL_MEMORY_BYTES: usize = 3 << 30;
/// Wall time of one function call, milliseconds.
pub const FUNCTION_DEADLINE_MS: u64 = 2_000;
/// Wall time of one model call (a step over a batch), milliseconds.
pub const MODEL_DEADLINE_MS: u64 = 30_000;
/// Client connections one POP holds open; the next waits in the kernel's backlog.
pub const MAX_CONNECTIONS: usize = 2_048;
/// How long a client may take to send a request's headers, milliseconds.
pub const HEADER_READ_MS: u64 = 15_000;
/// How long a client may take to send a request's body, whatever its rate, milliseconds.
pub const BODY_READ_MS: u64 = 30_000;
/// How long a client may leave a full stream unread before its request is ended, milliseconds.
pub const STREAM_STALL_MS: u64 = 60_000;
/// How long shutdown waits for streams to finish, milliseconds.
pub const SHUTDOWN_GRACE_MS: u64 = 30_000;
/// Connections one hub holds open to POPs; the next waits in the kernel's backlog.
pub const MAX_HUB_CONNECTIONS: usize = 4_096;
/// How long a POP may leave its stream at a hub without a message before the hub ends it, milliseconds.
pub const HUB_IDLE_MS: u64 = 120_000;
/// Ids a hub decodes ahead of what the POP says it has handed on; then the stream pauses.
pub const MAX_HUB_AHEAD_IDS: usize = 256;
/// Prompt tokens a hub computes per forward over all streams; bounds how long a long prompt delays the others.
pub const MAX_PREFILL_TOKENS: usize = 128;
/// Prefix links a POP remembers the hub by; the oldest are forgotten.
pub const MAX_KNOWN_PREFIXES: usize = 65_536;
/// Longest list of a repository's files that a model registry may send, bytes.
pub const MAX_REGISTRY_LISTING_BYTES: usize = 8 << 20;
/// Most files of one repository in a model registry.
pub const MAX_REGISTRY_FILES: usize = 20_000;
/// Redirects that one request to a model registry follows.
pub const MAX_REGISTRY_REDIRECTS: usize = 5;
/// Largest model file that is fetched, bytes.
pub const MAX_MODEL_FILE_BYTES: u64 = 1 << 40;
/// Most models that one node's store names.
pub const MAX_STORED_MODELS: usize = 4_096;
/// Longest manifest of a stored model, bytes.
pub const MAX_MODEL_MANIFEST_BYTES: u64 = 64 << 10;
/// Longest event (and line) in an upstream's stream, bytes.
pub const MAX_CORE_EVENT_BYTES: usize = 1 << 20;
/// Longest streamed answer of an upstream, framing included, bytes.
pub const MAX_CORE_RESPONSE_BYTES: usize = 16 << 20;
/// How much of an upstream's error is read, bytes.
pub const MAX_CORE_ERROR_BYTES: usize = 16 << 10;
/// How much of an upstream's error message a client is told, characters.
pub const MAX_CORE_MESSAGE_CHARACTERS: usize = 300;
/// Headers of an upstream's response.
pub const MAX_CORE_HEADERS: usize = 100;
/// Read buffer of a connection to an upstream, and so the longest head of a response, bytes.
pub const MAX_CORE_HEADER_BYTES: usize = 64 << 10;
/// Connections to one upstream that wait for a request.
pub const MAX_CORE_IDLE_CONNECTIONS: usize = 128;
/// Requests that wait for a place on one POP, those whose body is still arriving among them; the next gets 503.
pub const MAX_QUEUED_REQUESTS: usize = 4_096;
/// Requests of one tenant that wait for a place unless told otherwise; its next gets 429.
pub const DEFAULT_TENANT_QUEUE: usize = 64;
/// Requests that wait for a place on one POP unless told otherwise.
pub const DEFAULT_QUEUE: usize = 256;
/// How long a request waits for a place unless told otherwise, milliseconds.
pub const DEFAULT_QUEUE_WAIT_MS: u64 = 30_000;
/// Highest weight of a tenant in the queue.
pub const MAX_TENANT_WEIGHT: u32 = 100;
/// Bodies of all requests that are arriving, waiting or running on one POP, bytes; the next gets 503.
pub const MAX_BODY_BUDGET_BYTES: usize = 256 << 20;
/// Slowest a request's body may arrive once its grace is over, bytes per second.
pub const MIN_BODY_BYTES_PER_SECOND: u64 = 1_024;
/// How long a body may arrive more slowly than that, milliseconds.
pub const BODY_GRACE_MS: u64 = 5_000;
/// How long a request may take from its last byte to the last byte of its answer, milliseconds.
pub const MAX_REQUEST_MS: u64 = 3_600_000;
/// The same unless told otherwise, milliseconds.
pub const DEFAULT_REQUEST_MS: u64 = 600_000;
/// How long a client connection may be without a request, milliseconds.
pub const CONNECTION_IDLE_MS: u64 = 75_000;
/// Client connections from one address unless told otherwise; the next is closed.
pub const DEFAULT_CONNECTIONS_PER_ADDRESS: usize = 512;
/// HTTP/2 streams of one client connection.
pub const MAX_CONNECTION_STREAMS: u32 = 256;
/// Longest list of request headers, bytes.
pub const MAX_HEADER_BYTES: usize = 32 << 10;
/// Bytes of a request that the POP takes from one connection before anybody asked for them.
pub const CONNECTION_READ_WINDOW_BYTES: u32 = 256 << 10;
/// Longest request id taken from a client, characters.
pub const MAX_REQUEST_ID_CHARACTERS: usize = 128;
/// Proxies a request may have come through; addresses beyond are not looked at.
pub const MAX_PROXY_HOPS: usize = 16;
/// Largest certificate or key file, bytes.
pub const MAX_PEM_FILE_BYTES: u64 = 1 << 20;
/// Largest API keys file, bytes.
pub const MAX_KEYS_FILE_BYTES: u64 = 4 << 20;
/// Longest time a refused client is told to wait, seconds.
pub const MAX_RETRY_AFTER_SECONDS: u32 = 60;
/// Finished spans waiting to be sent to a collector; the next are dropped and counted.
pub const MAX_TELEMETRY_QUEUE: usize = 4_096;
/// Spans sent to a collector at once.
pub const MAX_TELEMETRY_BATCH: usize = 512;
/// Longest answer of a collector, bytes.
pub const MAX_TELEMETRY_ANSWER_BYTES: usize = 64 << 10;
/// How long one export to a collector may take, milliseconds.
pub const TELEMETRY_EXPORT_MS: u64 = 10_000;
/// Longest signature envelope, bytes.
pub const MAX_ENVELOPE_BYTES: usize = 64 << 10;
/// Most signatures in one envelope.
pub const MAX_SIGNATURES: usize = 16;
/// Longest module manifest, bytes.
pub const MAX_MANIFEST_BYTES: usize = 64 << 10;
/// Most grants of one kind that a manifest may ask for.
pub const MAX_MANIFEST_GRANTS: usize = 64;
/// Longest name of a module, bytes.
pub const MAX_MODULE_NAME_BYTES: usize = 63;
/// Linear memory of one instance of a function unless told otherwise, bytes.
pub const DEFAULT_FUNCTION_MEMORY_BYTES: u64 = 64 << 20;
/// Largest linear memory that a function may be granted, bytes.
pub const MAX_GRANTED_MEMORY_BYTES: u64 = 1 << 30;
/// Elements over all tables of one instance unless told otherwise.
pub const DEFAULT_FUNCTION_TABLE_ELEMENTS: u32 = 20_000;
/// Requests of one function that run at once unless told otherwise.
pub const DEFAULT_FUNCTION_CONCURRENCY: u32 = 128;
/// Requests of one function that wait for a place unless told otherwise; the next gets 429.
pub const DEFAULT_FUNCTION_QUEUE: u32 = 1_024;
/// Wall time of one function request unless told otherwise, milliseconds.
pub const DEFAULT_FUNCTION_WALL_MS: u64 = 30_000;
/// Processor time of one function request unless told otherwise, milliseconds.
pub const DEFAULT_FUNCTION_CPU_MS: u64 = 2_000;
/// Longest body of a function's request or response unless told otherwise, bytes.
pub const DEFAULT_FUNCTION_BODY_BYTES: u64 = 64 << 20;
/// Outbound requests in flight in one instance unless told otherwise.
pub const DEFAULT_FUNCTION_OUTBOUND: u32 = 8;
/// Answers of models that one instance of a function may have on their way; the next is refused.
pub const MAX_FUNCTION_CHATS: u32 = 4;
/// Function instances alive at once on one node, over all tenants.
pub const MAX_LIVE_FUNCTIONS: u32 = 12_000;
/// Requests to functions that run at once on one node, each with a stack; the next waits or gets 503.
pub const MAX_RUNNING_FUNCTIONS: u32 = 1_024;
/// Longest line that a function writes to its log, bytes; the rest of the line is cut.
pub const MAX_FUNCTION_LOG_LINE_BYTES: usize = 4 << 10;
/// Log lines that one request may write; the next are dropped and counted.
pub const MAX_FUNCTION_LOG_LINES: u32 = 256;
/// Longest key in a key-value store, bytes.
pub const MAX_STORE_KEY_BYTES: usize = 1 << 10;
/// Longest value in a key-value store, bytes.
pub const MAX_STORE_VALUE_BYTES: usize = 4 << 20;
/// Keys that one listing of a store returns.
pub const MAX_STORE_PAGE: usize = 1_000;
/// Connections that functions of one node hold open outwards; the next waits until one ends.
pub const MAX_OUTBOUND_CONNECTIONS: usize = 512;
/// Connections outwards that wait for a request.
pub const MAX_OUTBOUND_IDLE: usize = 128;
/// Connections of one tenant to one host that wait for a request.
pub const MAX_OUTBOUND_IDLE_PER_HOST: usize = 8;
/// Addresses of one host that are tried.
pub const MAX_OUTBOUND_ADDRESSES: usize = 16;
/// Longest head of an answer from outside, bytes.
pub const MAX_OUTBOUND_HEADER_BYTES: usize = 64 << 10;
/// Functions deployed on one node, over all tenants.
pub const MAX_DEPLOYMENTS: usize = 16_384;
/// Largest component that is deployed, bytes.
pub const MAX_COMPONENT_BYTES: usize = 128 << 20;
/// Host names that lead to functions of one node.
pub const MAX_FUNCTION_HOSTS: usize = 1_024;
/// Requests to functions of one tenant that run and wait at once, unless told otherwise; the next gets 429.
pub const DEFAULT_TENANT_FUNCTIONS: u32 = 256;
/// Bytes of keys and values in all key-value stores of one tenant unless told otherwise.
pub const DEFAULT_TENANT_STORE_BYTES: u64 = 64 << 20;
/// Writes to key-value stores that wait for the disk; the next waits for a place.
pub const MAX_STORE_QUEUE: usize = 1_024;
/// Writes to key-value stores that reach the disk together.
pub const MAX_STORE_BATCH: usize = 256;
/// Log lines kept of one function; the oldest are forgotten.
pub const MAX_KEPT_LOG_LINES: usize = 1_000;
/// Log lines kept of all functions of one node, bytes.
pub const MAX_KEPT_LOG_BYTES: usize = 64 << 20;
/// Log lines that one function may write each second, after a burst of ten times as many; the rest are counted.
pub const MAX_LOG_LINES_PER_SECOND: u32 = 200;
/// Log lines that a slow reader may fall behind before some are left out.
pub const MAX_LOG_BACKLOG: usize = 1_024;
/// Longest request body that is copied to a candidate version, bytes; longer ones are not.
pub const MAX_SHADOW_BODY_BYTES: usize = 256 << 10;
/// Copied requests that run at once; more are skipped and counted.
pub const MAX_SHADOW_RUNNING: usize = 16;
/// Differences between two versions that are described; the oldest are forgotten.
pub const MAX_SHADOW_SAMPLES: usize = 32;
/// Connections to a node's administration.
pub const MAX_ADMIN_CONNECTIONS: usize = 32;
/// Longest JSON body of an administration request, bytes.
pub const MAX_ADMIN_BODY_BYTES: usize = 2 << 20;
/// Most bytes of a file whose content becomes a function's environment value.
pub const MAX_ENVIRONMENT_FILE_BYTES: u64 = 64 << 10;
/// How long functions may finish what they began when their version is replaced, milliseconds.
pub const FUNCTION_DRAIN_MS: u64 = 30_000;
/// One page of linear memory, bytes: the least a function can have.
pub const WASM_PAGE_BYTES: u64 = 64 << 10;
/// Most elements over all tables that a function may be granted.
pub const MAX_FUNCTION_TABLE_ELEMENTS: u64 = 10_000_000;
/// Most requests of one function that may be let wait.
pub const MAX_FUNCTION_QUEUE: u64 = 65_536;
/// Longest body that a function may be granted, bytes.
pub const MAX_FUNCTION_BODY_BYTES: u64 = 1 << 40;
/// Most outbound requests in flight that one instance may be granted.
pub const MAX_FUNCTION_OUTBOUND: u64 = 1_024;
/// Most requests that one instance may be let answer.
pub const MAX_FUNCTION_REUSE: u64 = 1_000_000;
/// Largest module that is read, signed, composed, pushed or pulled, bytes.
pub const MAX_MODULE_BYTES: u64 = 256 << 20;
/// Most words of a manifest's build command, and most paths it watches.
pub const MAX_BUILD_WORDS: usize = 64;
/// Parts that one composition joins.
pub const MAX_COMPOSED_PARTS: usize = 32;
/// Longest embedded wasmsign2 signature section, bytes.
pub const MAX_EMBEDDED_SIGNATURE_BYTES: usize = 64 << 10;
/// Longest manifest or index of an OCI registry, bytes.
pub const MAX_OCI_MANIFEST_BYTES: usize = 1 << 20;
/// Longest configuration object of a Wasm artifact in an OCI registry, bytes.
pub const MAX_OCI_CONFIG_BYTES: usize = 1 << 20;
/// Most layers of one OCI manifest, and most entries of one OCI index.
pub const MAX_OCI_ENTRIES: usize = 256;
/// How much of an OCI registry's error is read, and the longest access token it may hand out, bytes.
pub const MAX_OCI_ANSWER_BYTES: usize = 64 << 10;
/// Redirects that one request to an OCI registry follows.
pub const MAX_OCI_REDIRECTS: usize = 5;
/// Longest file with credentials for registries, bytes.
pub const MAX_CREDENTIALS_BYTES: usize = 64 << 10;
/// Most distinct stacks of one profile that are drawn.
pub const MAX_PROFILE_STACKS: usize = 100_000;
/// Faults of a guest within [`GUEST_FAULT_WINDOW_MS`] that take it back to the version before.
pub const MAX_GUEST_FAULTS: usize = 5;
/// The time within which a guest's faults are counted, milliseconds.
pub const GUEST_FAULT_WINDOW_MS: u64 = 60_000;
/// Versions of one guest that may still serve what they began, beside the current one and the one before.
pub const MAX_DRAINING_GENERATIONS: usize = 4;
/// Models that a POP serves beside its draft model.
pub const MAX_EDGE_MODELS: usize = 64;
/// Memory that a model's sandbox is thought to need beside the weights until it was measured, bytes.
pub const MODEL_SANDBOX_BYTES: u64 = 8 << 20;
/// Kernel mappings that a live function sandbox takes at most; `obsidian doctor` reckons with it.
pub const MAPPINGS_PER_SANDBOX: u64 = 6;
/// Address space that a function sandbox reserves: what 32-bit code can name, and a guard behind it, bytes.
pub const SANDBOX_RESERVATION_BYTES: u64 = (4 << 30) + (32 << 20);
/// Memory of a small live function sandbox, page tables included, bytes.
pub const LIVE_SANDBOX_BYTES: u64 = 75 << 10;
