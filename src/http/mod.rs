//! The seam to the network: one request → one whole response, with pace and retry around it.

mod caller;
mod governor;
pub mod lean;
mod retry;
mod transport;
mod window;

pub use caller::{Call, Caller, CallerOptions, Classify, Effect, earlier_may_land};
pub use governor::{Family, Governor, GovernorOptions, Pass, ReadHeaders, TooLongAWait, retry_after, server_time};
pub use retry::RetryPolicy;
pub use transport::{InProcess, Reqwest, Transport, TransportError};
pub use window::{Learned, Window};
