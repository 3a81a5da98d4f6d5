//! The seam to the network: one request → one whole response, with pace and retry around it.

mod caller;
mod governor;
mod retry;
mod transport;

pub use caller::{Call, Caller, CallerOptions, Classify, Effect};
pub use governor::{
    Family, Governor, GovernorOptions, Learned, Pass, ReadHeaders, TooLongAWait, Window, retry_after, server_time,
};
pub use retry::RetryPolicy;
pub use transport::{InProcess, Reqwest, Transport, TransportError};
