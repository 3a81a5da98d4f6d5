//! Request bodies within bounds of size and memory. Time is bounded by the caller.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// Longer than any notification.
    TooLong,
    /// There is no memory left for it now.
    NoRoom,
    /// The sender broke off.
    Broken,
}

/// A whole body, and the memory that it was allowed.
pub(super) struct Held<'a> {
    pub(super) bytes: Bytes,
    _room: Option<SemaphorePermit<'a>>,
}

/// Reads a body of at most `longest` bytes, as long as `memory` has room for it. What it holds is asked for as it comes,
/// so a sender who announces much and sends nothing takes nothing.
pub(super) async fn read(mut body: Body, longest: usize, memory: &Semaphore) -> Result<Held<'_>, Unread> {
    let mut bytes = BytesMut::new();
    let mut room: Option<SemaphorePermit<'_>> = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
        if bytes.len() + data.len() > longest {
            discard(body).await;
            return Err(Unread::TooLong);
        }
        let more =
            memory.try_acquire_many(u32::try_from(data.len()).unwrap_or(u32::MAX)).map_err(|_| Unread::NoRoom)?;
        match &mut room {
            Some(room) => room.merge(more),
            None => room = Some(more),
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Held { bytes: bytes.freeze(), _room: room })
}

/// Takes what still comes of a body that is refused, for a short while, and forgets it. A connection that is closed on
/// unread bytes is reset, and the sender would not see why it was refused.
pub(super) async fn discard(mut body: Body) {
    const MOST: usize = 64 * 1024 * 1024;
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);
    let drain = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > MOST {
                break;
            }
        }
    };
    // Out of patience or out of bytes: both end it.
    drop(tokio::time::timeout(PATIENCE, drain).await);
}
