//! The seam to the network: one request → one whole response, with pace and retry around it.

mod caller;
mod transport;

pub use caller::{Call, Caller, Effect};
pub use transport::{InProcess, Reqwest, Transport, TransportError};
