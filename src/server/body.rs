//! Request bodies within bounds of size, memory and time.

use super::Shared;
use super::refused::announced;
use axum::body::Body;
use axum::http::HeaderMap;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long a body may take. Together with [`super::refused::KEEPING`] it stays below Intercom's 5 s; for how long Brevo
/// waits is not written anywhere.
const ARRIVING: Duration = Duration::from_millis(2_500);

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// Longer than any notification.
    TooLong,
    /// There is no memory left for it now, or too many are in work.
    NoRoom,
    /// The sender broke off.
    Broken,
    /// It did not arrive in time.
    Late,
}

/// A whole body, and the memory that it was allowed.
pub(super) struct Held<'a> {
    pub(super) bytes: Bytes,
    _room: Option<SemaphorePermit<'a>>,
}

impl Shared {
    /// A whole body that has arrived in time, and its place among those that are in work.
    pub(super) async fn arrived(
        &self,
        headers: &HeaderMap,
        body: Body,
        longest: usize,
    ) -> Result<(SemaphorePermit<'_>, Held<'_>), Unread> {
        if announced(headers).is_some_and(|length| length > longest as u64) {
            discard(body).await;
            return Err(Unread::TooLong);
        }
        let place = self.in_work.try_acquire().map_err(|_| Unread::NoRoom)?;
        let held =
            tokio::time::timeout(ARRIVING, read(body, longest, &self.memory)).await.map_err(|_| Unread::Late)??;
        Ok((place, held))
    }
}

/// Reads a body of at most `longest` bytes, as long as `memory` has room for it. What it holds is asked for as it comes,
/// so a sender who announces much and sends nothing takes nothing.
async fn read(mut body: Body, longest: usize, memory: &Semaphore) -> Result<Held<'_>, Unread> {
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
