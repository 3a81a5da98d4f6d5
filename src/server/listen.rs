//! Connections within bounds, and their end.

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections at once. More wait in the system's queue.
const CONNECTIONS: usize = 512;
/// How long a request's head may take, and how long a connection may idle between two requests. `axum::serve` sets no
/// such limit, so that a sender who never finishes his first line would hold a connection for ever.
const HEAD: Duration = Duration::from_secs(10);
/// How long requests under way may take once the program is asked to stop, which as a whole takes 10 s at most.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait when the system hands out no more connections (no file descriptors left).
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// Serves until asked to stop, then until the requests under way have ended or a few seconds have passed.
pub(super) async fn serve(router: Router, listener: TcpListener, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            // Never closed, so this cannot fail.
            let place = Arc::clone(&room).acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept => accepted,
        };
        match accepted {
            (Ok((stream, _)), place) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    talk(router, stream, stop).await;
                    drop(place);
                });
            }
            (Err(error), _) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        tracing::warn!("requests that did not end in time were cut off; Intercom sends their notifications again");
    }
}

async fn talk(router: Router, stream: TcpStream, stop: CancellationToken) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended badly: {error}");
    }
}
