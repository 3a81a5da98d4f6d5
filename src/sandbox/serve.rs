//! Serves a sandbox over HTTP on this machine.

use std::net::{Ipv4Addr, SocketAddr};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A router that is being served. Dropping it ends it.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinSet<std::io::Result<()>>,
}

impl Serving {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:port`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets requests under way finish, then ends.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.task.join_next().await.is_some() {}
    }
}

/// Serves `router` on the loopback address; port 0 takes a free one.
///
/// # Errors
/// If the port is taken.
pub async fn serve(router: axum::Router, port: u16) -> std::io::Result<Serving> {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let mut task = JoinSet::new();
    task.spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await });
    Ok(Serving { address, stop, task })
}
