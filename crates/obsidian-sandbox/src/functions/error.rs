//! Why a function did not answer. Each limit has a kind of its own, because the caller's answer differs.

/// Why a function did not answer. Nothing here quotes a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FunctionError {
    /// As many requests run and wait as may: 429.
    #[error("function {module} has {running} requests running and {waiting} waiting: try again shortly")]
    Busy {
        /// Which function.
        module: String,
        /// How many run.
        running: u32,
        /// How many wait.
        waiting: u32,
    },
    /// The node has no room for another instance: 503.
    #[error("this node has no room for another instance: try again shortly")]
    NodeFull,
    /// It took longer than its wall time: 504.
    #[error("function {module} took longer than its {limit_ms} ms")]
    WallTime {
        /// Which function.
        module: String,
        /// The limit, milliseconds.
        limit_ms: u64,
    },
    /// It computed longer than its processor time: 504.
    #[error("function {module} computed longer than its {limit_ms} ms of processor time")]
    CpuTime {
        /// Which function.
        module: String,
        /// The limit, milliseconds.
        limit_ms: u64,
    },
    /// It ran out of fuel: 504.
    #[error("function {module} used up its {limit} units of fuel")]
    Fuel {
        /// Which function.
        module: String,
        /// The limit.
        limit: u64,
    },
    /// It wanted more memory than it may have: 500.
    #[error("function {module} wanted more than its {limit_bytes} bytes of memory")]
    Memory {
        /// Which function.
        module: String,
        /// The limit, bytes.
        limit_bytes: u64,
    },
    /// It wanted more table elements than it may have: 500.
    #[error("function {module} wanted more than its {limit} table elements")]
    Table {
        /// Which function.
        module: String,
        /// The limit.
        limit: u32,
    },
    /// It trapped: 500. The reason names the kind of trap.
    #[error("function {module} trapped: {reason}")]
    Trap {
        /// Which function.
        module: String,
        /// The kind of trap.
        reason: String,
    },
    /// It returned without an answer: 502.
    #[error("function {module} returned without an answer")]
    NoAnswer {
        /// Which function.
        module: String,
    },
    /// It answered with an error code of `wasi:http`: 502.
    #[error("function {module} answered with the error `{code}`")]
    Refused {
        /// Which function.
        module: String,
        /// The code.
        code: String,
    },
    /// The request's body is longer than it may be: 413.
    #[error("the request's body is longer than the {limit} bytes that function {module} takes")]
    RequestTooLong {
        /// Which function.
        module: String,
        /// The limit, bytes.
        limit: u64,
    },
    /// The node stops: 503.
    #[error("this node is shutting down")]
    Stopping,
}

impl FunctionError {
    /// A short stable name, for metrics and error codes.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "busy",
            Self::NodeFull => "node_full",
            Self::WallTime { .. } => "wall_time",
            Self::CpuTime { .. } => "cpu_time",
            Self::Fuel { .. } => "fuel",
            Self::Memory { .. } => "memory",
            Self::Table { .. } => "table",
            Self::Trap { .. } => "trap",
            Self::NoAnswer { .. } => "no_answer",
            Self::Refused { .. } => "refused",
            Self::RequestTooLong { .. } => "request_too_long",
            Self::Stopping => "stopping",
        }
    }
}
